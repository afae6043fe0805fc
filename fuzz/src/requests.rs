// SPDX-License-Identifier: Apache-2.0
//! The bodies of plausible requests.

use arbitrary::Arbitrary;
use serde_json::{Map, Value, json};

use crate::host::Host;
use crate::names::{
    Bridge, Egress, Egress6, Endpoint, HostAddress, Instance, Mac, Network, Number, Pool, Subnet, Tenant, Vnic,
};

/// `RequestPool`.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct PoolRequest {
    tenant: Tenant,
    subnet: Option<Subnet>,
    sub_pool: Option<Subnet>,
    serial: bool,
    global: bool,
    v6: bool,
    of_size: bool,
}

impl PoolRequest {
    pub(crate) fn body(self) -> Value {
        let mut options = Map::new();
        if self.tenant != Tenant::Nobody {
            options.insert("tenant".into(), self.tenant.text().into());
        }
        if self.serial {
            options.insert("com.docker.network.ipam.serial".into(), "true".into());
        }
        let any = if self.of_size { "0.0.0.0/28" } else { "" };
        json!({
            "AddressSpace": if self.global { "global" } else { "local" },
            "Pool": self.subnet.map_or(any, Subnet::text),
            "SubPool": self.sub_pool.map_or("", Subnet::text),
            "Options": options,
            "V6": self.subnet.map_or(self.v6, Subnet::is_v6),
        })
    }
}

/// `RequestAddress`.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct AddressRequest {
    pool: Pool,
    address: Option<(Subnet, Number)>,
    gateway: bool,
}

impl AddressRequest {
    pub(crate) fn body(self, host: &Host) -> Value {
        let mut options = Map::new();
        if self.gateway {
            options.insert("RequestAddressType".into(), "com.docker.network.gateway".into());
        }
        let address = self.address.map_or_else(String::new, |(subnet, number)| subnet.address(number));
        json!({ "PoolID": self.pool.id(host), "Address": address, "Options": options })
    }
}

/// `CreateNetwork`.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) struct NetworkRequest {
    pub(crate) network: Network,
    tenant: Tenant,
    subnets: [Option<(Subnet, Option<Number>)>; 2],
    bridge: Option<Bridge>,
    egress: Option<Egress>,
    egress6: Option<Egress6>,
    routed: Option<(Subnet, Option<Subnet>)>,
    cnci: bool,
    internal: bool,
    required: bool,
    unsecured: bool,
    no_icc: bool,
    small: Option<u8>,
    /// Whether ciao-ipam's spaces are named.
    paired: bool,
}

impl NetworkRequest {
    pub(crate) fn body(&self) -> Value {
        let space = if self.paired { "local" } else { "LocalDefault" };
        let data = |v6: bool| -> Vec<Value> {
            let meant = self.subnets.iter().flatten().filter(|(subnet, _)| subnet.is_v6() == v6);
            meant.map(|(subnet, gateway)| subnet.data(*gateway, space)).collect()
        };
        json!({
            "NetworkID": self.network.id(),
            "Options": { "com.docker.network.internal": self.internal, "com.docker.network.generic": self.options() },
            "IPv4Data": data(false),
            "IPv6Data": data(true),
        })
    }

    fn options(&self) -> Map<String, Value> {
        let mut options = Map::new();
        let mut say = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                options.insert(key.into(), value.into());
            }
        };
        say("tenant", Some(self.tenant.text().to_owned()).filter(|tenant| !tenant.is_empty()));
        say("bridge", self.bridge.map(|bridge| bridge.text().to_owned()));
        say("egress", self.egress.map(|egress| egress.text().to_owned()));
        say("egress6", self.egress6.map(|egress| egress.text().to_owned()));
        say("cnci", self.cnci.then(|| "10.1.0.1".to_owned()));
        say("vnics", self.required.then(|| "required".to_owned()));
        say("port_security", self.unsecured.then(|| "off".to_owned()));
        say("icc", self.no_icc.then(|| "false".to_owned()));
        say("com.docker.network.driver.mtu", self.small.map(|mtu| (u32::from(mtu) * 10).to_string()));
        let route = |(to, by): (Subnet, Option<Subnet>)| {
            by.map_or_else(|| to.text().to_owned(), |by| format!("{}={}", to.text(), by.address(Number::first())))
        };
        say("routes", self.routed.map(route));
        options
    }
}

/// `CreateEndpoint`.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct EndpointRequest {
    pub(crate) endpoint: Endpoint,
    pub(crate) network: Network,
    v4: Option<(Subnet, Number)>,
    v6: Option<(Subnet, Number)>,
    mac: Option<Mac>,
    instance: Option<Instance>,
    vnic: Option<Vnic>,
    rate: bool,
}

impl EndpointRequest {
    pub(crate) fn body(self, host: &Host) -> Value {
        let of = |v6: bool| {
            let meant = [self.v4, self.v6].into_iter().flatten().find(|(subnet, _)| subnet.is_v6() == v6);
            meant.map_or_else(String::new, |(subnet, number)| subnet.cidr(number))
        };
        let mut options = Map::new();
        if let Some(instance) = self.instance {
            options.insert("instance".into(), instance.text().into());
        }
        if let Some(vnic) = self.vnic {
            options.insert("vnic".into(), vnic.id(host).into());
        }
        if self.rate {
            options.insert("rate".into(), "100mbit".into());
        }
        let mac = self.mac.map_or("", Mac::text);
        let interface = json!({ "Address": of(false), "AddressIPv6": of(true), "MacAddress": mac });
        let mut body = names(self.network, self.endpoint);
        body["Interface"] = interface;
        body["Options"] = options.into();
        body
    }
}

/// The argument of the calls that name an endpoint alone.
pub(crate) fn names(network: Network, endpoint: Endpoint) -> Value {
    json!({ "NetworkID": network.id(), "EndpointID": endpoint.id() })
}

/// A published port: of two of the container and few of the host.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct Port {
    protocol: u8,
    host: Option<u8>,
    width: u8,
    address: HostAddress,
}

impl Port {
    pub(crate) fn binding(self) -> Value {
        let first = self.host.map_or(0, |port| 8000 + u16::from(port % 4));
        let last = if first == 0 { 0 } else { first + u16::from(self.width % 3) };
        // TCP, UDP, SCTP, and one without ports.
        let protocol = [6, 17, 132, 1][usize::from(self.protocol % 4)];
        json!({
            "Proto": protocol, "IP": "", "Port": 80, "HostIP": self.address.text(),
            "HostPort": first, "HostPortEnd": last,
        })
    }
}

/// A launcher's.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(crate) struct VnicRequest {
    tenant: Tenant,
    instance: Instance,
    place: (Subnet, Number),
    second: Option<(Subnet, Number)>,
    mac: Mac,
    gateway: Option<Number>,
    bridge: Option<Bridge>,
    mtu: Option<u8>,
    allowed: bool,
}

impl VnicRequest {
    pub(crate) fn body(self) -> Value {
        let (subnet, number) = self.place;
        let mut body = json!({
            "tenant": self.tenant.text(), "instance": self.instance.text(), "mac": self.mac.text(),
            "subnet": subnet.text(), "address": subnet.address(number),
        });
        if let Some((subnet, number)) = self.second {
            body["subnet6"] = subnet.text().into();
            body["address6"] = subnet.address(number).into();
        }
        if let Some(number) = self.gateway {
            body["gateway"] = subnet.address(number).into();
        }
        if let Some(bridge) = self.bridge {
            body["bridge"] = bridge.text().into();
        }
        if let Some(mtu) = self.mtu {
            body["mtu"] = (u32::from(mtu) * 10).into();
        }
        if self.allowed {
            body["allowed_addresses"] = json!(["10.1.0.13", "fd00:1::d"]);
        }
        body
    }
}
