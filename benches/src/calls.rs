// SPDX-License-Identifier: Apache-2.0
//! What Docker says to the two plugins, with the words of recorded engines, and the clients that repeat it.

use std::path::Path;

use anyhow::{Context, Result};
use ciao_common::api::ipam::AddressReply;
use serde_json::{Value, json};

use crate::http::{Call, Connection};
use crate::load::Client;

/// Asks for a pool of a tenant, and for its gateway's address; returns the pool's id.
///
/// # Errors
/// The daemon refuses.
pub fn request_pool(ipam: &Path, tenant: &str, pool: &str, gateway: &str) -> Result<String> {
    let mut connection = Connection::open(ipam, false)?;
    let options = json!({"tenant": tenant});
    let body =
        json!({"AddressSpace": "local", "Pool": pool, "SubPool": "", "Options": options, "V6": pool.contains(':')});
    let reply: Value = connection.ask(&Call::new("/IpamDriver.RequestPool", &body))?;
    let id = reply["PoolID"].as_str().context("a PoolID")?.to_owned();
    let options = json!({"RequestAddressType": "com.docker.network.gateway"});
    let body = json!({"PoolID": id, "Address": gateway, "Options": options});
    connection.ask::<Value>(&Call::new("/IpamDriver.RequestAddress", &body))?;
    Ok(id)
}

/// A network as `docker network create -o tenant=T` makes it.
#[derive(Clone, Debug)]
pub struct Network {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Whose.
    pub tenant: String,
    /// CIDR.
    pub subnet: String,
    /// CIDR.
    pub gateway: String,
}

impl Network {
    /// `10.N.0.0/16` of a tenant.
    #[must_use]
    pub fn numbered(tenant: &str, number: u8) -> Self {
        Self {
            id: id("net", &[tenant.len(), usize::from(number)]),
            tenant: tenant.to_owned(),
            subnet: format!("10.{number}.0.0/16"),
            gateway: format!("10.{number}.0.1/16"),
        }
    }

    /// Makes it.
    ///
    /// # Errors
    /// The daemon refuses.
    pub fn create(&self, connection: &mut Connection) -> Result<()> {
        let data = json!({"AddressSpace": "local", "Pool": self.subnet, "Gateway": self.gateway});
        let options = json!({"com.docker.network.generic": {"tenant": self.tenant}});
        let body = json!({"NetworkID": self.id, "Options": options, "IPv4Data": [data], "IPv6Data": []});
        connection.ask::<Value>(&Call::new("/NetworkDriver.CreateNetwork", &body)).map(drop)
    }

    /// Takes it away.
    ///
    /// # Errors
    /// The daemon refuses.
    pub fn delete(&self, connection: &mut Connection) -> Result<()> {
        connection.ask::<Value>(&Call::new("/NetworkDriver.DeleteNetwork", &json!({"NetworkID": self.id}))).map(drop)
    }

    /// `CreateEndpoint` of the endpoint with that number, which is its address's too.
    #[must_use]
    pub fn create_endpoint(&self, endpoint: &str, number: usize) -> Call {
        let address = format!("{}{}.{}/16", self.subnet.trim_end_matches("0.0/16"), 1 + number / 200, 2 + number % 200);
        let options = json!({"com.docker.network.endpoint.exposedports": [], "com.docker.network.portmap": []});
        let interface = json!({"Address": address, "AddressIPv6": "", "MacAddress": ""});
        let body = json!({"NetworkID": self.id, "EndpointID": endpoint, "Interface": interface, "Options": options});
        Call::new("/NetworkDriver.CreateEndpoint", &body)
    }

    /// A call that names the network and an endpoint.
    #[must_use]
    pub fn endpoint_call(&self, path: &'static str, endpoint: &str) -> Call {
        let key = "/var/run/docker/netns/2f97353c172d";
        Call::new(path, &json!({"NetworkID": self.id, "EndpointID": endpoint, "SandboxKey": key, "Options": {}}))
    }
}

/// An id of Docker's form: 64 hexadecimal digits.
#[must_use]
pub fn id(kind: &str, numbers: &[usize]) -> String {
    let head: String = kind.bytes().map(|byte| format!("{byte:02x}")).collect();
    let tail: String = numbers.iter().map(|number| format!("{number:012x}")).collect();
    // Names of links and namespaces are made of an id's first digits, so what differs comes first.
    format!("{:0<64}", format!("{}{head}", tail.chars().rev().collect::<String>()))
}

/// `RequestAddress`, then `ReleaseAddress`, again and again.
#[derive(Debug)]
pub struct Lease {
    pool: String,
    held: Option<String>,
}

impl Lease {
    /// On a pool.
    #[must_use]
    pub fn new(pool: &str) -> Self {
        Self { pool: pool.to_owned(), held: None }
    }
}

impl Client for Lease {
    fn next(&mut self) -> Call {
        match &self.held {
            None => {
                let body = json!({"PoolID": self.pool, "Address": "", "Options": {}});
                Call::new("/IpamDriver.RequestAddress", &body)
            }
            Some(address) => Call::new("/IpamDriver.ReleaseAddress", &json!({"PoolID": self.pool, "Address": address})),
        }
    }

    fn hear(&mut self, body: &[u8]) -> Result<()> {
        if self.held.take().is_none() {
            let reply: AddressReply = serde_json::from_slice(body)?;
            let (address, _) = reply.address.split_once('/').context("an address with its prefix")?;
            self.held = Some(address.to_owned());
        }
        Ok(())
    }

    fn rests(&self) -> bool {
        self.held.is_none()
    }
}

/// `CreateEndpoint`, then `DeleteEndpoint`, again and again, each with an id of its own.
#[derive(Debug)]
pub struct Endpoint {
    network: Network,
    number: usize,
    made: usize,
    exists: bool,
}

impl Endpoint {
    /// The client with that number of a network.
    #[must_use]
    pub fn new(network: &Network, number: usize) -> Self {
        Self { network: network.clone(), number, made: 0, exists: false }
    }
}

impl Client for Endpoint {
    fn next(&mut self) -> Call {
        // A peer's links have names of an id's first ten digits.
        let endpoint = id("ep", &[100 * self.made + self.number]);
        if self.exists {
            self.network.endpoint_call("/NetworkDriver.DeleteEndpoint", &endpoint)
        } else {
            self.network.create_endpoint(&endpoint, self.number)
        }
    }

    fn hear(&mut self, _body: &[u8]) -> Result<()> {
        self.made += usize::from(self.exists);
        self.exists = !self.exists;
        Ok(())
    }

    fn rests(&self) -> bool {
        !self.exists
    }
}

/// One call, again and again.
#[derive(Debug)]
pub struct Same(Call);

impl Same {
    /// That call.
    #[must_use]
    pub fn new(call: Call) -> Self {
        Self(call)
    }
}

impl Client for Same {
    fn next(&mut self) -> Call {
        self.0.clone()
    }

    fn hear(&mut self, _body: &[u8]) -> Result<()> {
        Ok(())
    }
}
