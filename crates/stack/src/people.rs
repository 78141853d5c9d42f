//! Those who sign in: people of the stack's user pool.

use aws_sdk_cognitoidentityprovider::types::{AttributeType, AuthFlowType, MessageActionType};

use crate::error::said;
use crate::{Error, Stack};

/// The group of the user pool whose people are administrators.
pub const ADMIN: &str = "admin";

impl Stack {
    /// Adds somebody who can sign in at once. Nobody is sent a mail.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is somebody of that address already, or the password is too weak; [`Error::Missing`] without a
    /// stack; when AWS refuses or does not answer.
    pub async fn add_user(&self, email: &str, password: &str) -> Result<(), Error> {
        let pool = self.output("userPoolId").await?;
        let attribute = |name: &str, value: &str| {
            AttributeType::builder()
                .name(name)
                .value(value)
                .build()
                .map_err(|_| Error::Answer("an attribute"))
        };
        let asked = self
            .cognito
            .admin_create_user()
            .user_pool_id(&pool)
            .username(email)
            .user_attributes(attribute("email", email)?)
            .user_attributes(attribute("email_verified", "true")?)
            .message_action(MessageActionType::Suppress)
            .send()
            .await;
        match asked.map_err(|error| said("cognito-idp:AdminCreateUser", error)) {
            Err(Error::Refused { code, .. }) if code == "UsernameExistsException" => {
                return Err(Error::Usage(format!(
                    "{email} is there already: --reset gives them another password"
                )));
            }
            made => drop(made?),
        }
        match self.set_password(email, password).await {
            Ok(()) => Ok(()),
            Err(error) => {
                // Somebody who cannot sign in would be in the way of the next try.
                let gone = self.cognito.admin_delete_user().user_pool_id(&pool).username(email).send().await;
                drop(gone);
                Err(error)
            }
        }
    }

    /// Gives somebody another password.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is nobody of that address, or the password is too weak; as for [`Stack::add_user`].
    pub async fn set_password(&self, email: &str, password: &str) -> Result<(), Error> {
        let pool = self.output("userPoolId").await?;
        let asked = self.cognito.admin_set_user_password().user_pool_id(pool).username(email);
        let asked = asked.password(password).permanent(true).send().await;
        match asked.map_err(|error| said("cognito-idp:AdminSetUserPassword", error)) {
            Err(Error::Refused { code, message, .. }) if code == "InvalidPasswordException" => {
                Err(Error::Usage(format!("the password: {message}")))
            }
            Err(Error::Refused { code, .. }) if code == "UserNotFoundException" => {
                Err(Error::Usage(format!("there is nobody called {email}: without --reset they are added")))
            }
            set => set.map(drop),
        }
    }

    /// Makes somebody an administrator of the server.
    ///
    /// # Errors
    /// As for [`Stack::add_user`].
    pub async fn make_admin(&self, email: &str) -> Result<(), Error> {
        let pool = self.output("userPoolId").await?;
        let group = self.cognito.create_group().user_pool_id(&pool).group_name(ADMIN);
        let group = group.description("Administrators of Lastframe").send().await;
        match group.map_err(|error| said("cognito-idp:CreateGroup", error)) {
            Err(Error::Refused { code, .. }) if code == "GroupExistsException" => {}
            made => drop(made?),
        }
        let asked =
            self.cognito.admin_add_user_to_group().user_pool_id(pool).username(email).group_name(ADMIN);
        asked.send().await.map_err(|error| said("cognito-idp:AdminAddUserToGroup", error))?;
        Ok(())
    }

    /// Signs somebody in, as the guide does it, and gives their IdToken.
    ///
    /// # Errors
    /// As for [`Stack::add_user`].
    pub async fn sign_in(&self, email: &str, password: &str) -> Result<String, Error> {
        let client = self.output("userPoolClientId").await?;
        let asked = self.cognito.initiate_auth().client_id(client).auth_flow(AuthFlowType::UserPasswordAuth);
        let asked =
            asked.auth_parameters("USERNAME", email).auth_parameters("PASSWORD", password).send().await;
        let signed = asked.map_err(|error| said("cognito-idp:InitiateAuth", error))?;
        let tokens = signed.authentication_result.and_then(|tokens| tokens.id_token);
        tokens.ok_or(Error::Answer("an IdToken"))
    }

    async fn output(&self, name: &'static str) -> Result<String, Error> {
        self.outputs().await?.remove(name).ok_or(Error::Answer(name))
    }
}
