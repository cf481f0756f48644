package lab

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
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
}

func (n netns) path() string { return "/run/netns/" + n.name }

// attach makes a network namespace with an address on the bridge. The caller holds the network lock.
func (b bridge) attach(ctx context.Context, container string) (netns, error) {
	used := map[string]bool{}
	for _, n := range b.namespaces() {
		used[n.addr] = true
	}
	ns := netns{}
	last := 0
	for last = 2; last < 128; last++ {
		if ns.addr = fmt.Sprintf("%s%d", b.prefix, last); !used[ns.addr] {
			break
		}
	}
	if last == 128 {
		return netns{}, errors.New("all addresses of the lab's bridge are taken")
	}
	// The address is part of the name: the list of namespaces is the list of leases.
	ns.name = fmt.Sprintf("%s-%d-%s", b.tag, last, container)
	veth := fmt.Sprintf("%.8s-%d", b.tag, last)
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

// remove deletes the namespace; its end of the pair, and with it the host's, goes when the last process in it does.
func (n netns) remove() error {
	if n.name == "" {
		return nil
	}
	if !exists(n.path()) {
		return nil
	}
	_, err := command(context.Background(), "ip", "netns", "del", n.name)
	return err
}

// namespaces are those of this lab that exist.
func (b bridge) namespaces() []netns {
	paths, _ := filepath.Glob("/run/netns/" + b.tag + "-*")
	var out []netns
	for _, p := range paths {
		rest := strings.TrimPrefix(filepath.Base(p), b.tag+"-")
		last, _, _ := strings.Cut(rest, "-")
		out = append(out, netns{name: filepath.Base(p), addr: b.prefix + last})
	}
	return out
}
