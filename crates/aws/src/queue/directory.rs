//! Sites: what a name stands for, and what it stood for before.

use async_trait::async_trait;
use lastframe_core::ports::{Directory, QueueError, RemoveSiteError};
use lastframe_core::site::SiteVersion;
use lastframe_core::{RenderId, Status, TenantId};
use serde::{Deserialize, Serialize};

use super::body::Body;
use super::row::RenderRow;
use super::schema::{self, STATUS};
use super::table::{Key, Search, Trouble, from_item, retrying, s, storage, text, to_item};
use super::tx::{If, Tx};
use super::{AwsQueue, Shared};

/// Versions that are removed in one transaction.
const TOGETHER: usize = 30;

/// What a name stands for.
#[derive(Debug, Serialize, Deserialize)]
struct NameRow {
    v: u64,
    current: String,
}

#[async_trait]
impl Directory for AwsQueue {
    async fn put_site(&self, tenant: &TenantId, site: SiteVersion) -> Result<(), QueueError> {
        let queue = &*self.shared;
        queue.see(tenant).await?;
        let digest =
            lastframe_core::hex::encode(&super::table::digest(&format!("{tenant}/{}", site.name))[..8]);
        let name = || format!("sites/{digest}/{}.json", site.version);
        let body = queue.keep(name, serde_json::to_string(&site).map_err(storage)?).await?;
        retrying(async || {
            let key = schema::site(tenant, &site.name);
            let before: Option<NameRow> = queue.table.row(&key).await?;
            let mut tx = Tx::new(queue);
            let v = before.as_ref().map_or(0, |before| before.v + 1);
            let when = before.map_or(If::New, |before| If::Version(before.v));
            tx.put_row(&key, &NameRow { v, current: site.version.clone() }, when)?;
            tx.put_row(&schema::site_version(tenant, &site.name, &site.version), &body, If::Always)?;
            let marker = schema::version(&site.version, tenant, &site.name);
            tx.put(to_item(&marker, &serde_json::json!({}))?, If::Always)?;
            tx.commit().await
        })
        .await
    }

    async fn site(&self, tenant: &TenantId, name: &str) -> Result<Option<SiteVersion>, QueueError> {
        match self.shared.table.row::<NameRow>(&schema::site(tenant, name)).await? {
            Some(row) => self.site_version(tenant, name, &row.current).await,
            None => Ok(None),
        }
    }

    async fn site_version(
        &self,
        tenant: &TenantId,
        name: &str,
        version: &str,
    ) -> Result<Option<SiteVersion>, QueueError> {
        match self.shared.table.row(&schema::site_version(tenant, name, version)).await? {
            Some(body) => self.shared.site_of(body).await.map(Some),
            None => Ok(None),
        }
    }

    async fn site_versions(&self, tenant: &TenantId, name: &str) -> Result<Vec<SiteVersion>, QueueError> {
        let mut versions = Vec::new();
        for (_, body) in self.shared.versions(tenant, name).await? {
            versions.push(self.shared.site_of(body).await?);
        }
        versions.sort_by_key(|site| std::cmp::Reverse(site.created_at));
        Ok(versions)
    }

    async fn has_version(&self, version: &str) -> Result<bool, QueueError> {
        let search = Search::table(schema::version(version, &TenantId::new(""), "").pk);
        Ok(!self.shared.table.find(search, 1).await?.is_empty())
    }

    async fn sites(&self, tenant: &TenantId) -> Result<Vec<SiteVersion>, QueueError> {
        let search = Search::table(schema::sites(tenant)).beginning("name/");
        let mut sites = Vec::new();
        for item in self.shared.table.find(search, usize::MAX).await? {
            let key = Key::of(&item)?;
            let row: NameRow = from_item(item)?;
            let version = Key::new(
                key.pk,
                format!(
                    "version/{}/{}",
                    key.sk.trim_start_matches("name/"),
                    lastframe_core::percent::encode(&row.current)
                ),
            );
            if let Some(body) = self.shared.table.row(&version).await? {
                sites.push(self.shared.site_of(body).await?);
            }
        }
        sites.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(sites)
    }

    async fn remove_site(&self, tenant: &TenantId, name: &str) -> Result<(), RemoveSiteError> {
        let queue = &*self.shared;
        let removed = retrying(async || {
            let key = schema::site(tenant, name);
            let Some(current) = queue.table.row::<NameRow>(&key).await? else {
                return Ok(Err(RemoveSiteError::NotFound));
            };
            let versions = queue.versions(tenant, name).await?;
            let names: Vec<&str> = versions.iter().map(|(version, _)| version.as_str()).collect();
            if let Some(user) = queue.user(tenant, name, &names).await? {
                return Ok(Err(RemoveSiteError::InUse(user)));
            }
            let mut tx = Tx::new(queue);
            tx.delete_version(&key, current.v)?;
            for (index, version) in names.iter().enumerate() {
                tx.delete(&schema::site_version(tenant, name, version))?;
                tx.delete(&schema::version(version, tenant, name))?;
                if (index + 1) % TOGETHER == 0 && index + 1 < names.len() {
                    std::mem::replace(&mut tx, Tx::new(queue)).commit().await?;
                }
            }
            tx.commit().await?;
            Ok(Ok(versions))
        });
        for (_, body) in removed.await?? {
            if let Some(object) = body.object() {
                queue.drop_object(object).await;
            }
        }
        Ok(())
    }

    async fn remove_site_version(
        &self,
        tenant: &TenantId,
        name: &str,
        version: &str,
    ) -> Result<(), RemoveSiteError> {
        let queue = &*self.shared;
        let removed = retrying(async || {
            let key = schema::site_version(tenant, name, version);
            let Some(body) = queue.table.row::<Body>(&key).await? else {
                return Ok(Err(RemoveSiteError::NotFound));
            };
            let name_key = schema::site(tenant, name);
            let Some(current) = queue.table.row::<NameRow>(&name_key).await? else {
                return Err(Trouble::Again);
            };
            if current.current == version {
                return Ok(Err(RemoveSiteError::Current));
            }
            if let Some(user) = queue.user(tenant, name, &[version]).await? {
                return Ok(Err(RemoveSiteError::InUse(user)));
            }
            let mut tx = Tx::new(queue);
            tx.check(&name_key, current.v)?;
            tx.delete(&key)?;
            tx.delete(&schema::version(version, tenant, name))?;
            tx.commit().await?;
            Ok(Ok(body))
        });
        if let Some(object) = removed.await??.object() {
            queue.drop_object(object).await;
        }
        Ok(())
    }
}

impl Shared {
    async fn site_of(&self, body: Body) -> Result<SiteVersion, QueueError> {
        let text = self.open(body).await?.ok_or_else(|| storage("a site is not in the bucket any more"))?;
        serde_json::from_str(&text).map_err(storage)
    }

    /// The versions of a site, each with what is known of it.
    async fn versions(&self, tenant: &TenantId, name: &str) -> Result<Vec<(String, Body)>, QueueError> {
        let begins = schema::site_version(tenant, name, "").sk;
        let search = Search::table(schema::sites(tenant)).beginning(&begins);
        let mut versions = Vec::new();
        for item in self.table.find(search, usize::MAX).await? {
            let version = text(&item, "sk")?.trim_start_matches(&begins).to_owned();
            versions.push((version, from_item(item)?));
        }
        Ok(versions)
    }

    /// A render that still needs one of these versions.
    async fn user(
        &self,
        tenant: &TenantId,
        site: &str,
        versions: &[&str],
    ) -> Result<Option<RenderId>, QueueError> {
        for status in [Status::Rendering, Status::Queued] {
            for version in versions {
                let search = Search::index(STATUS, schema::renders(tenant, Some(status)))
                    .only("sv = :f0", vec![s(RenderRow::sv(site, version))]);
                if let Some(item) = self.table.find(search, 1).await?.pop() {
                    return text(&item, "id")?.parse().map(Some).map_err(storage);
                }
            }
        }
        Ok(None)
    }
}
