//! What runs on AWS Lambda.

fn main() {}
