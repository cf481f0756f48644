package lab

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"time"
)

// bridge is the lab's private network: one Linux bridge with the host on .1, Docker's containers in the upper
// half and those of the other runtimes in the lower. No address translation, no forwarding, no firewall rule:
// containers reach the host and each other and nothing else.
type bridge struct {
	name   string
	prefix string // "10.88.77."
	tag    string
}

func newBridge(tag string) bridge {
	if tag == "" {
		return bridge{name: "sherdlab0", prefix: "10.88.77.", tag: "sherdlab"}
	}
	h := fnv.New32a()
	h.Write([]byte(tag))
	return bridge{name: "sherd" + tag, prefix: fmt.Sprintf("10.88.%d.", 100+h.Sum32()%150), tag: "sherd" + tag}
}

// host is the host's address on the bridge, which containers reach.
func (b bridge) host() string { return b.prefix + "1" }

func (b bridge) works() bool {
	i, err := net.InterfaceByName(b.name)
	return err == nil && i.Flags&net.FlagUp != 0
}

func (b bridge) up() error {
	if b.works() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := net.InterfaceByName(b.name); err != nil {
		if _, err := command(ctx, "ip", "link", "add", b.name, "type", "bridge"); err != nil {
			return err
		}
	}
	for _, argv := range [][]string{
		{"ip", "addr", "replace", b.host() + "/24", "dev", b.name},
		{"ip", "link", "set", b.name, "up"},
	} {
		if _, err := command(ctx, argv...); err != nil {
			return errors.Join(err, b.down())
		}
	}
	return nil
}

func (b bridge) down() error {
	if !exists("/sys/class/net/" + b.name) {
		return nil
	}
	_, err := command(context.Background(), "ip", "link", "del", b.name)
	return err
}

// netns is a network namespace that the lab made for one container of a runtime that has no network of its own.
type netns struct {
	name string
	addr string
	link string // the host's end of its pair
}

func (n netns) path() string { return "/run/netns/" + n.name }

// attach makes a network namespace with an address on the bridge. The caller holds the network lock.
func (b bridge) attach(ctx context.Context, container string) (netns, error) {
	used := map[string]bool{}
	for _, n := range b.namespaces() {
		used[n.addr] = true
	}
	ns := netns{}
	// The search begins anywhere, so that an address that was just given up rests: what others remember of it (connections,
	// its link address) would meet the new owner.
	const first, count = 2, 126
	last, start := 0, rand.IntN(count)
	for i := range count {
		last = first + (start+i)%count
		if ns.addr = fmt.Sprintf("%s%d", b.prefix, last); !used[ns.addr] {
			break
		}
		ns.addr = ""
	}
	if ns.addr == "" {
		return netns{}, errors.New("all addresses of the lab's bridge are taken")
	}
	// The address is part of the name: the list of namespaces is the list of leases.
	ns.name = fmt.Sprintf("%s-%d-%s", b.tag, last, container)
	ns.link = fmt.Sprintf("%.8s-%d", b.tag, last)
	veth := ns.link
	steps := [][]string{
		{"ip", "netns", "add", ns.name},
		{"ip", "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", ns.name},
		{"ip", "link", "set", veth, "master", b.name, "up"},
		{"ip", "-n", ns.name, "addr", "add", ns.addr + "/24", "dev", "eth0"},
		{"ip", "-n", ns.name, "link", "set", "lo", "up"},
		{"ip", "-n", ns.name, "link", "set", "eth0", "up"},
		{"ip", "-n", ns.name, "route", "add", "default", "via", b.host()},
	}
	for _, argv := range steps {
		if _, err := command(ctx, argv...); err != nil {
			return netns{}, errors.Join(err, ns.remove())
		}
	}
	return ns, nil
}

// remove deletes the pair of links and the namespace. The links go first: the namespace lives on as long as anything holds it.
func (n netns) remove() error {
	if n.name == "" {
		return nil
	}
	var errs []error
	if n.link != "" && exists("/sys/class/net/"+n.link) {
		_, err := command(context.Background(), "ip", "link", "del", n.link)
		errs = append(errs, err)
	}
	if exists(n.path()) {
		_, err := command(context.Background(), "ip", "netns", "del", n.name)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// namespaces are those of this lab that exist.
func (b bridge) namespaces() []netns {
	paths, _ := filepath.Glob("/run/netns/" + b.tag + "-*")
	var out []netns
	for _, p := range paths {
		rest := strings.TrimPrefix(filepath.Base(p), b.tag+"-")
		last, _, _ := strings.Cut(rest, "-")
		out = append(out, netns{name: filepath.Base(p), addr: b.prefix + last, link: fmt.Sprintf("%.8s-%s", b.tag, last)})
	}
	return out
}
