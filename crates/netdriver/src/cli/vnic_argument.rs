// SPDX-License-Identifier: Apache-2.0
//! A VNIC on the command line: its id, the beginning of it, or its instance.

use anyhow::{Context, Result, bail};
use ciao_common::cli::client::Client;
use ciao_common::types::{TenantId, VnicId};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::launcher::VnicReply;

#[derive(Args)]
pub(super) struct VnicArgument {
    /// ID of the VNIC, a prefix of it, or the instance it belongs to
    #[arg(value_name = "VNIC", value_parser = NonEmptyStringValueParser::new())]
    text: String,
    /// Tenant of the instance, if its name is not unique
    #[arg(long)]
    tenant: Option<TenantId>,
}

impl VnicArgument {
    /// The id. One that is no VNIC's is taken as it is: what follows from that, the daemon says.
    pub(super) fn id(&self, ciao: &Client) -> Result<VnicId> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_id = self.text.len() == 10 && self.text.bytes().all(is_hex);
        match choose(self.all(ciao)?, &self.text) {
            Ok(vnic) => Ok(vnic.id),
            Err(_) if is_id => self.text.parse(),
            Err(error) => Err(error),
        }
    }

    /// The VNIC.
    pub(super) fn find(&self, ciao: &Client) -> Result<VnicReply> {
        choose(self.all(ciao)?, &self.text)
    }

    fn all(&self, ciao: &Client) -> Result<Vec<VnicReply>> {
        let query = self.tenant.as_ref().map_or_else(String::new, |tenant| format!("?tenant={tenant}"));
        let vnics = ciao.get(&format!("/v1/vnics{query}"))?.success()?;
        serde_json::from_value(vnics).context("read the daemon's reply")
    }
}

fn choose(vnics: Vec<VnicReply>, text: &str) -> Result<VnicReply> {
    let is_instance = |vnic: &VnicReply| vnic.instance.as_ref().is_some_and(|instance| instance.as_str() == text);
    let (named, others): (Vec<_>, Vec<_>) = vnics.into_iter().partition(is_instance);
    let by_id = || others.into_iter().filter(|vnic| vnic.id.as_str().starts_with(text)).collect();
    let mut found = if named.is_empty() { by_id() } else { named };
    match found.len() {
        0 => bail!("VNIC {text} is unknown: see \"ciao-net vnic list\"; give an id, a prefix of it, or an instance"),
        1 => Ok(found.remove(0)),
        _ => {
            let each = found.iter().map(|vnic| {
                let name = |name: Option<&str>| name.unwrap_or("-").to_owned();
                let (tenant, instance) = (vnic.tenant.as_ref(), vnic.instance.as_ref());
                format!("{} ({}.{})", vnic.id, name(tenant.map(|t| t.as_str())), name(instance.map(|i| i.as_str())))
            });
            bail!("several VNICs match {text}: {}: give an id, or --tenant", each.collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chosen(text: &str) -> Result<String> {
        let vnic = |id: &str, tenant: &str, instance: Option<&str>| {
            let vnic = json!({
                "id": id, "container_link": "cv1", "host_link": "hv1", "bridge": "br-1", "tenant": tenant,
                "instance": instance, "mac": "02:00:c0:a8:6f:02", "allowed_addresses": [],
            });
            serde_json::from_value(vnic).unwrap()
        };
        let vnics = vec![
            vnic("0123456789", "red", Some("web")),
            vnic("01ffffffff", "blue", Some("web")),
            vnic("ab00000000", "red", Some("01")),
            vnic("cd00000000", "red", None),
        ];
        choose(vnics, text).map(|vnic| vnic.id.to_string())
    }

    #[test]
    fn a_vnic_is_named_by_its_instance_or_the_beginning_of_its_id() {
        assert_eq!(chosen("012").unwrap(), "0123456789");
        assert_eq!(chosen("c").unwrap(), "cd00000000");
        assert_eq!(chosen("01").unwrap(), "ab00000000", "an instance of that name goes first");
        let several = chosen("web").unwrap_err().to_string();
        assert!(several.contains("0123456789 (red.web), 01ffffffff (blue.web): give an id, or --tenant"), "{several}");
        assert!(chosen("nobody").unwrap_err().to_string().starts_with("VNIC nobody is unknown"));
    }
}
