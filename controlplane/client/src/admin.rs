//! What only admins may call. None of it is repeated by itself: who asks wants to know it now.

use http::Method;
use ironcast_api::{AuditList, Reloaded};
use serde::de::DeserializeOwned;

use crate::{Client, ClientError, connection::refusal};

impl Client {
    /// `POST /admin/reload`: has the control plane read its configuration again. Gives what is
    /// different now; a problem says why nothing is.
    pub async fn reload(&self) -> Result<Reloaded, ClientError> {
        self.admin(Method::POST, "/v1/admin/reload").await
    }

    /// `GET /audit`: the last so many entries, at most 1,000, the newest last.
    pub async fn audit(&self, limit: u32) -> Result<AuditList, ClientError> {
        self.admin(Method::GET, &format!("/v1/audit?limit={limit}")).await
    }

    async fn admin<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
    ) -> Result<T, ClientError> {
        let answer = self.request(method, path, None).await?;
        if !(200..300).contains(&answer.status) {
            return Err(refusal(answer.status, &answer.body));
        }
        serde_json::from_slice(&answer.body).map_err(|error| ClientError::Answer(error.to_string()))
    }
}
