//! The system on AWS as one CloudFormation stack.
