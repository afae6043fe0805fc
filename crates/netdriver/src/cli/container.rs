// SPDX-License-Identifier: Apache-2.0
//! The container that `launch` makes: its labels, and the body of Docker's `POST /containers/create`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result};
use ciao_common::types::{InstanceId, MacAddr, TenantId, VnicId};
use serde_json::{Map, Value, json};

use super::run_options::RunOptions;
use super::run_values::Binding;

/// By these labels `terminate` finds an instance's containers, whatever they are called.
pub(super) const TENANT: &str = "ciao.tenant";
pub(super) const INSTANCE: &str = "ciao.instance";
const VNIC: &str = "ciao.vnic";

/// A container on a VNIC, with every address given.
pub(super) struct Container<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) instance: &'a InstanceId,
    pub(super) options: &'a RunOptions,
    pub(super) image: &'a str,
    pub(super) command: &'a [String],
    /// The Docker network's id.
    pub(super) network: &'a str,
    pub(super) vnic: &'a VnicId,
    pub(super) mac: MacAddr,
    pub(super) addresses: Vec<IpAddr>,
}

impl Container<'_> {
    /// What it is called.
    pub(super) fn name(&self) -> String {
        let standard = || format!("{}.{}", self.tenant, self.instance);
        self.options.name.clone().unwrap_or_else(standard)
    }

    /// The body of `POST /containers/create`. `mac_of_endpoint`: the MAC address is the endpoint's, not the
    /// container's.
    ///
    /// # Errors
    /// The current folder, which a relative source of a volume needs, is not known.
    pub(super) fn body(&self, mac_of_endpoint: bool) -> Result<Value> {
        let options = self.options;
        let mut ports = BTreeMap::<_, Vec<_>>::new();
        for (container, host_ip, host_port) in options.publish.iter().flat_map(Binding::ports) {
            ports.entry(container).or_default().push(json!({ "HostIp": host_ip, "HostPort": host_port }));
        }
        let (mut binds, mut anonymous) = (Vec::new(), Map::new());
        for volume in &options.volume {
            match volume.bind().context("read the current directory")? {
                Some(bind) => binds.push(bind),
                None => drop(anonymous.insert(volume.target().to_owned(), json!({}))),
            }
        }
        let mut labels = json!({ TENANT: self.tenant, INSTANCE: self.instance, VNIC: self.vnic });
        for (name, value) in &options.label {
            labels[name] = json!(value);
        }
        let mut addresses = json!({});
        for address in &self.addresses {
            addresses[if address.is_ipv4() { "IPv4Address" } else { "IPv6Address" }] = json!(address);
        }
        // Peers resolve the instance's name, whatever the container is called.
        let mut endpoint =
            json!({ "IPAMConfig": addresses, "DriverOpts": { "vnic": self.vnic }, "Aliases": [self.instance] });
        let mut body = given(json!({
            "Image": self.image,
            "Cmd": self.command,
            "Entrypoint": options.entrypoint.as_ref().map(|program| [program]),
            "Env": options.env.iter().filter_map(|variable| variable_of(variable)).collect::<Vec<_>>(),
            "Hostname": options.hostname,
            "WorkingDir": options.workdir,
            "User": options.user,
            "Labels": labels,
            "Volumes": anonymous,
            "ExposedPorts": ports.keys().map(|port| (port.clone(), json!({}))).collect::<Map<_, _>>(),
            "HostConfig": given(json!({
                "NetworkMode": self.network,
                "RestartPolicy": options.restart.json(),
                "PortBindings": ports,
                "Binds": binds,
                "Memory": options.memory.map(|bytes| bytes.0),
                "NanoCpus": options.cpus.map(|cpus| cpus.0),
                "Dns": options.dns,
            })),
        }));
        let with_mac = if mac_of_endpoint { &mut endpoint } else { &mut body };
        with_mac["MacAddress"] = json!(self.mac);
        body["NetworkingConfig"] = json!({ "EndpointsConfig": { self.network: endpoint } });
        Ok(body)
    }
}

/// `NAME=VALUE`, or nothing for a variable that has no value here.
fn variable_of(text: &str) -> Option<String> {
    if text.contains('=') {
        return Some(text.to_owned());
    }
    std::env::var(text).ok().map(|value| format!("{text}={value}"))
}

/// The fields that have a value: what is null or empty is left to the image and to Docker.
fn given(mut fields: Value) -> Value {
    let is_empty = |value: &Value| *value == Value::Null || *value == json!([]) || *value == json!({});
    fields.as_object_mut().into_iter().for_each(|fields| fields.retain(|_, value| !is_empty(value)));
    fields
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: RunOptions,
    }

    fn body(line: &str) -> Value {
        let options = Line::try_parse_from(std::iter::once("launch").chain(line.split(' '))).unwrap().options;
        let container = Container {
            tenant: &"red".parse().unwrap(),
            instance: &"web".parse().unwrap(),
            options: &options,
            image: "nginx",
            command: &[],
            network: "n1",
            vnic: &"0123456789".parse().unwrap(),
            mac: "02:00:c0:a8:6f:02".parse().unwrap(),
            addresses: vec!["192.168.111.2".parse().unwrap()],
        };
        container.body(true).unwrap()
    }

    #[test]
    fn options_of_docker_run_mean_what_they_mean_there() {
        let body = body(
            "-p 8080:80 -p 127.0.0.1:8443:443/tcp -e A=1 -e NO_SUCH_VARIABLE_HERE -v /data:/srv:ro -v named:/n -v /anonymous \
             --label x=y --hostname h --restart on-failure:3 -m 512m --cpus 1.5 --entrypoint /run -w /tmp -u 1:2 --dns 9.9.9.9",
        );
        let host = &body["HostConfig"];
        assert_eq!(host["PortBindings"]["80/tcp"], json!([{ "HostIp": "", "HostPort": "8080" }]));
        assert_eq!(host["PortBindings"]["443/tcp"], json!([{ "HostIp": "127.0.0.1", "HostPort": "8443" }]));
        assert_eq!(body["ExposedPorts"], json!({ "80/tcp": {}, "443/tcp": {} }));
        assert_eq!(body["Env"], json!(["A=1"]));
        assert_eq!(host["Binds"], json!(["/data:/srv:ro", "named:/n"]));
        assert_eq!(body["Volumes"], json!({ "/anonymous": {} }));
        assert_eq!(
            body["Labels"],
            json!({ "ciao.tenant": "red", "ciao.instance": "web", "ciao.vnic": "0123456789", "x": "y" })
        );
        assert_eq!(host["RestartPolicy"], json!({ "Name": "on-failure", "MaximumRetryCount": 3 }));
        assert_eq!((&host["Memory"], &host["NanoCpus"]), (&json!(536_870_912), &json!(1_500_000_000)));
        assert_eq!(body["Entrypoint"], json!(["/run"]));
        assert_eq!(
            (&body["Hostname"], &body["WorkingDir"], &body["User"]),
            (&json!("h"), &json!("/tmp"), &json!("1:2"))
        );
        assert_eq!(host["Dns"], json!(["9.9.9.9"]));
        let endpoint = &body["NetworkingConfig"]["EndpointsConfig"]["n1"];
        assert_eq!(endpoint["Aliases"], json!(["web"]));
        assert_eq!(endpoint["IPAMConfig"]["IPv4Address"], "192.168.111.2");
    }

    #[test]
    fn what_is_not_given_is_the_image_s_or_docker_s() {
        let body = body("--name x");
        for key in ["Env", "Hostname", "Entrypoint", "WorkingDir", "User", "Cmd", "Volumes", "ExposedPorts"] {
            assert!(body.get(key).is_none(), "{key}: {body}");
        }
    }
}
