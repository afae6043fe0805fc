// SPDX-License-Identifier: Apache-2.0
//! [`Engine`], which sends a host the calls of a recorded engine.
//!
//! Ids of pools, dynamic addresses and published ports are the plugin's and the host's to give: where a recorded one
//! stands in a request, ours is put in its place. The engine's own ids, MAC addresses and options stay.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, TcpListener};

use serde_json::{Value, json};

use crate::host::Host;
use crate::wire::{Call, Line};

const PORT_MAP: &str = "com.docker.network.portmap";
const GENERIC: &str = "com.docker.network.generic";

pub(crate) struct Engine {
    pub(crate) host: Host,
    pub(crate) steps: usize,
    pub(crate) calls: usize,
    /// What `AllocateNetwork` answered on a swarm's leader: all that `CreateNetwork` says of options on the nodes.
    pub(crate) allocated: Option<Value>,
    has_own_network: bool,
    /// Recorded names of address spaces, and ours.
    spaces: BTreeMap<String, Value>,
    /// By recorded PoolID.
    pools: BTreeMap<String, Pool>,
    /// Recorded PoolIDs by recorded subnet, the newest of each: networks name their pools by subnet alone.
    newest_pools: BTreeMap<String, String>,
    /// By NetworkID.
    networks: BTreeMap<String, Network>,
    /// Links in sandboxes, by EndpointID.
    links: BTreeMap<String, String>,
    /// Recorded ports of the host, and ours.
    ports: BTreeMap<u64, u16>,
}

/// A pool of ours, in the place of a recorded one.
struct Pool {
    id: Value,
    subnet: Value,
    /// Recorded addresses, and ours as CIDRs: more than one where the recording plugin gave one twice.
    addresses: BTreeMap<IpAddr, Vec<String>>,
}

/// What a network was made with.
struct Network {
    /// Recorded PoolIDs.
    pools: Vec<String>,
    /// Ours: bare addresses, IPv4 and IPv6.
    gateways: [String; 2],
    is_internal: bool,
}

impl Engine {
    pub(crate) fn new(host: Host, has_own_network: bool) -> Self {
        Self {
            host,
            steps: 0,
            calls: 0,
            allocated: None,
            has_own_network,
            spaces: BTreeMap::new(),
            pools: BTreeMap::new(),
            newest_pools: BTreeMap::new(),
            networks: BTreeMap::new(),
            links: BTreeMap::new(),
            ports: BTreeMap::new(),
        }
    }

    pub(crate) fn play(&mut self, line: &Line) {
        match line {
            Line::Step { step } => {
                self.steps += 1;
                if step.contains("SIGKILL") {
                    self.host.kill_containers();
                    self.links.clear();
                }
            }
            Line::Call(call) if call.method == "Plugin.Activate" => {
                assert_eq!(self.host.activate(&call.reply), call.reply);
            }
            Line::Call(call) => {
                self.calls += 1;
                let request = self.ours(call);
                let reply = self.host.call(&call.method, &request);
                self.learn(call, &request, &reply);
            }
        }
    }

    pub(crate) fn assert_nothing_left(&self, but: &[&str]) {
        self.host.assert_nothing_left(but);
        assert!(self.pools.is_empty(), "the recorded user removed every network");
        for port in self.ports.values() {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).expect("no port of the host is held any more");
        }
    }

    /// The recorded request, about our pools, addresses and ports.
    fn ours(&mut self, call: &Call) -> Value {
        let mut request = call.request.clone();
        match call.method.as_str() {
            "IpamDriver.RequestPool" => request["AddressSpace"] = self.spaces[text(&request["AddressSpace"])].clone(),
            "IpamDriver.ReleasePool" => request["PoolID"] = self.pools[text(&request["PoolID"])].id.clone(),
            "IpamDriver.RequestAddress" => {
                let pool = &self.pools[text(&request["PoolID"])];
                if let Ok(address) = text(&request["Address"]).parse() {
                    request["Address"] = json!(pool.free_one(address));
                }
                request["PoolID"] = pool.id.clone();
            }
            "IpamDriver.ReleaseAddress" => {
                let pool = self.pools.get_mut(text(&request["PoolID"])).expect("it was requested");
                request["Address"] = json!(bare(&pool.forget(text(&request["Address"]))));
                request["PoolID"] = pool.id.clone();
            }
            "NetworkDriver.AllocateNetwork" | "NetworkDriver.CreateNetwork" => self.our_network(call, &mut request),
            "NetworkDriver.CreateEndpoint" => {
                let network = &self.networks[text(&request["NetworkID"])];
                for key in ["Address", "AddressIPv6"] {
                    if let Ok(address) = bare(text(&request["Interface"][key])).parse() {
                        let ours = network.pools.iter().find_map(|pool| self.pools[pool].newest(address));
                        request["Interface"][key] = json!(ours.expect("the address was requested before"));
                    }
                }
            }
            _ => {}
        }
        for binding in request["Options"].get_mut(PORT_MAP).and_then(Value::as_array_mut).into_iter().flatten() {
            let recorded = binding["HostPort"].as_u64().expect("a port is a number");
            let port = *self.ports.entry(recorded).or_insert_with(|| {
                if self.has_own_network { recorded.try_into().expect("a port has 16 bits") } else { free_port() }
            });
            binding["HostPort"] = json!(port);
            binding["HostPortEnd"] = json!(port);
        }
        request
    }

    /// Subnets, gateways and auxiliary addresses are those of the pools that were requested right before.
    fn our_network(&mut self, call: &Call, request: &mut Value) {
        let (mut pools, mut gateways) = (Vec::new(), [String::new(), String::new()]);
        for (family, key) in ["IPv4Data", "IPv6Data"].into_iter().enumerate() {
            for data in request[key].as_array_mut().into_iter().flatten() {
                let id = &self.newest_pools[text(&data["Pool"])];
                let pool = &self.pools[id];
                let ours = |recorded: &Value| pool.newest(bare(text(recorded)).parse().unwrap()).unwrap();
                data["Pool"] = pool.subnet.clone();
                data["Gateway"] = json!(ours(&data["Gateway"]));
                gateways[family] = bare(text(&data["Gateway"])).to_owned();
                for aux in data["AuxAddresses"].as_object_mut().into_iter().flatten() {
                    *aux.1 = json!(ours(aux.1));
                }
                if let Some(space) = self.spaces.get(text(&data["AddressSpace"])) {
                    data["AddressSpace"] = space.clone();
                }
                pools.push(id.clone());
            }
        }
        if call.method.ends_with("CreateNetwork") {
            if let Some(options) = &self.allocated {
                request["Options"][GENERIC] = options.clone();
            }
            let is_internal = request["Options"]["com.docker.network.internal"] == true;
            self.networks.insert(text(&request["NetworkID"]).to_owned(), Network { pools, gateways, is_internal });
        }
    }

    /// Our reply, checked, and what the engine does then.
    fn learn(&mut self, call: &Call, request: &Value, reply: &Value) {
        let endpoint = request["EndpointID"].as_str().unwrap_or_default();
        match call.method.as_str() {
            "IpamDriver.GetDefaultAddressSpaces" => {
                for key in ["LocalDefaultAddressSpace", "GlobalDefaultAddressSpace"] {
                    self.spaces.insert(text(&call.reply[key]).to_owned(), reply[key].clone());
                }
            }
            "IpamDriver.RequestPool" => {
                if request["Pool"] != "" {
                    assert_eq!(reply["Pool"], call.reply["Pool"]);
                }
                let (id, subnet) = (reply["PoolID"].clone(), reply["Pool"].clone());
                assert!(self.pools.values().all(|pool| pool.id != id), "each of these pools is another one");
                let recorded = text(&call.reply["PoolID"]).to_owned();
                self.newest_pools.insert(text(&call.reply["Pool"]).to_owned(), recorded.clone());
                self.pools.insert(recorded, Pool { id, subnet, addresses: BTreeMap::new() });
            }
            "IpamDriver.ReleasePool" => drop(self.pools.remove(text(&call.request["PoolID"]))),
            "IpamDriver.RequestAddress" => {
                let ours = text(&reply["Address"]);
                if request["Address"] != "" {
                    assert_eq!(bare(ours), request["Address"]);
                }
                let pool = self.pools.get_mut(text(&call.request["PoolID"])).expect("it was requested");
                let prefix = text(&pool.subnet).split_once('/').map(|(_, prefix)| prefix);
                assert_eq!(ours.split_once('/').map(|(_, prefix)| prefix), prefix, "the whole pool's");
                assert!(!pool.holds(bare(ours)), "{ours} is given twice");
                let recorded = bare(text(&call.reply["Address"])).parse().unwrap();
                pool.addresses.entry(recorded).or_default().push(ours.to_owned());
            }
            "NetworkDriver.AllocateNetwork" => self.allocated = Some(reply["Options"].clone()),
            "NetworkDriver.DeleteNetwork" => drop(self.networks.remove(text(&request["NetworkID"]))),
            "NetworkDriver.CreateEndpoint" => {
                assert!(reply["Interface"].is_null(), "what was given must not be answered: {reply}");
            }
            "NetworkDriver.Join" => {
                let network = &self.networks[text(&request["NetworkID"])];
                let none = [String::new(), String::new()];
                let expected = if network.is_internal { &none } else { &network.gateways };
                assert_eq!([text(&reply["Gateway"]), text(&reply["GatewayIPv6"])], *expected);
                assert_eq!(reply["DisableGatewayService"] == true, network.is_internal, "{reply}");
                let link = text(&reply["InterfaceName"]["SrcName"]);
                self.host.enter(link, endpoint);
                self.links.insert(endpoint.to_owned(), link.to_owned());
            }
            "NetworkDriver.Leave" => {
                let link = self.links.remove(endpoint).expect("it joined");
                self.host.leave(&link, endpoint);
            }
            _ => {}
        }
    }
}

impl Pool {
    fn holds(&self, ours: &str) -> bool {
        self.addresses.values().flatten().any(|held| bare(held) == ours)
    }

    /// The address, or a stand-in where ours is somebody else's: dynamic addresses of a good plugin are others than the
    /// recorded ones, so one may be what the user of the recording gave to a container that is stopped.
    fn free_one(&self, wanted: IpAddr) -> IpAddr {
        let IpAddr::V4(v4) = wanted else { return wanted };
        let [a, b, c, _] = v4.octets();
        let others = (128..255).rev().map(|last| Ipv4Addr::from([a, b, c, last]).into());
        let mut candidates = std::iter::once(wanted).chain(others);
        candidates.find(|address| !self.holds(&address.to_string())).expect("the pool is not full")
    }

    /// Ours for a recorded address, as a CIDR.
    fn newest(&self, recorded: IpAddr) -> Option<String> {
        self.addresses.get(&recorded)?.last().cloned()
    }

    fn forget(&mut self, recorded: &str) -> String {
        let held = self.addresses.get_mut(&recorded.parse().unwrap()).and_then(Vec::pop);
        held.expect("the engine releases what it requested")
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn bare(cidr: &str) -> &str {
    cidr.split_once('/').map_or(cidr, |(address, _)| address)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}
