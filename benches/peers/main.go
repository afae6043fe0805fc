// SPDX-License-Identifier: Apache-2.0

// Command peer is the least that a pair of plugins does on Docker's own helpers for Go: addresses by a map, veth pairs
// on a bridge by netlink. With a database each change is a commit of its own, as libnetwork's own store does it.
package main

import (
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"
	"github.com/vishvananda/netlink"
	bolt "go.etcd.io/bbolt"
)

// store keeps each change, or nothing.
type store struct{ db *bolt.DB }

var bucket = []byte("records")

func open(path string) (store, error) {
	if path == "" {
		return store{}, nil
	}
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		return store{}, err
	}
	return store{db}, db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucket)
		return err
	})
}

// set records a value, or deletes it with nil.
func (s store) set(key string, value []byte) error {
	if s.db == nil {
		return nil
	}
	return s.db.Update(func(tx *bolt.Tx) error {
		if value == nil {
			return tx.Bucket(bucket).Delete([]byte(key))
		}
		return tx.Bucket(bucket).Put([]byte(key), value)
	})
}

// pool has the addresses from first on; next is below the lowest that is free.
type pool struct {
	subnet *net.IPNet
	taken  map[uint32]bool
	next   uint32
}

type addresses struct {
	sync.Mutex
	store store
	pools map[string]*pool
}

func number(ip net.IP) uint32 {
	v4 := ip.To4()
	return uint32(v4[0])<<24 | uint32(v4[1])<<16 | uint32(v4[2])<<8 | uint32(v4[3])
}

func (a *addresses) GetCapabilities() (*ipam.CapabilitiesResponse, error) {
	return &ipam.CapabilitiesResponse{}, nil
}

func (a *addresses) GetDefaultAddressSpaces() (*ipam.AddressSpacesResponse, error) {
	return &ipam.AddressSpacesResponse{LocalDefaultAddressSpace: "local", GlobalDefaultAddressSpace: "global"}, nil
}

func (a *addresses) RequestPool(r *ipam.RequestPoolRequest) (*ipam.RequestPoolResponse, error) {
	_, subnet, err := net.ParseCIDR(r.Pool)
	if err != nil {
		return nil, err
	}
	a.Lock()
	defer a.Unlock()
	id := r.AddressSpace + "/" + r.Options["tenant"] + "/" + r.Pool
	if a.pools[id] == nil {
		a.pools[id] = &pool{subnet, map[uint32]bool{}, number(subnet.IP) + 1}
	}
	return &ipam.RequestPoolResponse{PoolID: id, Pool: subnet.String()}, a.store.set(id, []byte{1})
}

func (a *addresses) ReleasePool(r *ipam.ReleasePoolRequest) error {
	a.Lock()
	defer a.Unlock()
	delete(a.pools, r.PoolID)
	return a.store.set(r.PoolID, nil)
}

func (a *addresses) RequestAddress(r *ipam.RequestAddressRequest) (*ipam.RequestAddressResponse, error) {
	a.Lock()
	defer a.Unlock()
	p := a.pools[r.PoolID]
	if p == nil {
		return nil, errors.New("no such pool")
	}
	wanted := p.next
	if r.Address != "" {
		wanted = number(net.ParseIP(r.Address))
	} else {
		for p.taken[wanted] {
			wanted++
		}
		p.next = wanted + 1
	}
	ip := net.IPv4(byte(wanted>>24), byte(wanted>>16), byte(wanted>>8), byte(wanted))
	if p.taken[wanted] || !p.subnet.Contains(ip) {
		return nil, fmt.Errorf("%s is not free", ip)
	}
	p.taken[wanted] = true
	ones, _ := p.subnet.Mask.Size()
	reply := &ipam.RequestAddressResponse{Address: fmt.Sprintf("%s/%d", ip, ones)}
	return reply, a.store.set(r.PoolID+"/"+ip.String(), []byte{1})
}

func (a *addresses) ReleaseAddress(r *ipam.ReleaseAddressRequest) error {
	a.Lock()
	defer a.Unlock()
	if p := a.pools[r.PoolID]; p != nil {
		freed := number(net.ParseIP(r.Address))
		delete(p.taken, freed)
		p.next = min(p.next, freed)
	}
	return a.store.set(r.PoolID+"/"+r.Address, nil)
}

type links struct {
	sync.Mutex
	store   store
	bridges map[string]netlink.Link
}

func (l *links) bridge(id string) (netlink.Link, error) {
	l.Lock()
	defer l.Unlock()
	if found := l.bridges[id]; found != nil {
		return found, nil
	}
	return nil, errors.New("no such network")
}

func (l *links) GetCapabilities() (*network.CapabilitiesResponse, error) {
	return &network.CapabilitiesResponse{Scope: network.LocalScope, ConnectivityScope: network.LocalScope}, nil
}

func (l *links) CreateNetwork(r *network.CreateNetworkRequest) error {
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "pb" + r.NetworkID[:10]}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return err
	}
	for _, data := range r.IPv4Data {
		gateway, err := netlink.ParseAddr(data.Gateway)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(bridge, gateway); err != nil {
			return err
		}
	}
	l.Lock()
	l.bridges[r.NetworkID] = bridge
	l.Unlock()
	if err := netlink.LinkSetUp(bridge); err != nil {
		return err
	}
	return l.store.set(r.NetworkID, []byte{1})
}

func (l *links) DeleteNetwork(r *network.DeleteNetworkRequest) error {
	bridge, err := l.bridge(r.NetworkID)
	if err != nil {
		return err
	}
	l.Lock()
	delete(l.bridges, r.NetworkID)
	l.Unlock()
	if err := netlink.LinkDel(bridge); err != nil {
		return err
	}
	return l.store.set(r.NetworkID, nil)
}

func outer(endpoint string) string { return "ph" + endpoint[:10] }

func inner(endpoint string) string { return "pc" + endpoint[:10] }

func (l *links) CreateEndpoint(r *network.CreateEndpointRequest) (*network.CreateEndpointResponse, error) {
	bridge, err := l.bridge(r.NetworkID)
	if err != nil {
		return nil, err
	}
	if err := l.store.set(r.EndpointID, []byte(r.Interface.Address)); err != nil {
		return nil, err
	}
	attributes := netlink.NewLinkAttrs()
	attributes.Name, attributes.MasterIndex = outer(r.EndpointID), bridge.Attrs().Index
	veth := &netlink.Veth{LinkAttrs: attributes, PeerName: inner(r.EndpointID)}
	if err := netlink.LinkAdd(veth); err != nil {
		return nil, err
	}
	return &network.CreateEndpointResponse{}, netlink.LinkSetUp(veth)
}

func (l *links) DeleteEndpoint(r *network.DeleteEndpointRequest) error {
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: outer(r.EndpointID)}}
	if err := netlink.LinkDel(veth); err != nil {
		return err
	}
	return l.store.set(r.EndpointID, nil)
}

func (l *links) EndpointInfo(*network.InfoRequest) (*network.InfoResponse, error) {
	return &network.InfoResponse{}, nil
}

func (l *links) Join(r *network.JoinRequest) (*network.JoinResponse, error) {
	if _, err := netlink.LinkByName(inner(r.EndpointID)); err != nil {
		return nil, err
	}
	return &network.JoinResponse{InterfaceName: network.InterfaceName{SrcName: inner(r.EndpointID), DstPrefix: "eth"}}, nil
}

func (l *links) AllocateNetwork(*network.AllocateNetworkRequest) (*network.AllocateNetworkResponse, error) {
	return nil, errors.New("local")
}

func (l *links) FreeNetwork(*network.FreeNetworkRequest) error       { return nil }
func (l *links) Leave(*network.LeaveRequest) error                   { return nil }
func (l *links) DiscoverNew(*network.DiscoveryNotification) error    { return nil }
func (l *links) DiscoverDelete(*network.DiscoveryNotification) error { return nil }
func (l *links) ProgramExternalConnectivity(*network.ProgramExternalConnectivityRequest) error {
	return nil
}
func (l *links) RevokeExternalConnectivity(*network.RevokeExternalConnectivityRequest) error {
	return nil
}

// serve answers on FOLDER/ipam.sock and FOLDER/net.sock; in memory without a database.
func serve(folder, database string) error {
	records, err := open(database)
	if err != nil {
		return err
	}
	ended := make(chan error)
	leases := ipam.NewHandler(&addresses{store: records, pools: map[string]*pool{}})
	networks := network.NewHandler(&links{store: records, bridges: map[string]netlink.Link{}})
	go func() { ended <- leases.ServeUnix(filepath.Join(folder, "ipam.sock"), os.Getgid()) }()
	go func() { ended <- networks.ServeUnix(filepath.Join(folder, "net.sock"), os.Getgid()) }()
	return <-ended
}

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: peer FOLDER [DATABASE]")
	}
	database := ""
	if len(os.Args) > 2 {
		database = os.Args[2]
	}
	log.Fatal(serve(os.Args[1], database))
}
