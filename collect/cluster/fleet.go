package cluster

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/sherd-forensics/sherd/target/kubernetes"
)

// Limits bound what runs at once, so that neither a node nor the API server is made to suffer.
type Limits struct {
	Node int // captures on one node
	All  int // captures, and collectors, in all
}

// Each has do called once for every one of nodes, which are those that containers run on: with a collector on that node, which all of
// the node share, or with the reason why there is none. It returns when all are done and nothing of the collectors is left; its
// error says what could not be taken away.
func Each(ctx context.Context, c *kubernetes.Cluster, nodes []string, o Options, l Limits, do func(i int, s *Session, err error)) error {
	l.Node, l.All = max(1, l.Node), max(1, l.All)
	of := map[string][]int{}
	var order []string
	for i, n := range nodes {
		if of[n] == nil {
			order = append(order, n)
		}
		of[n] = append(of[n], i)
	}
	f := &fleet{c: c, o: o, l: l, do: do, slots: make(chan struct{}, l.All), room: &room{}}
	f.room.enter()
	collectors := make(chan struct{}, l.All)
	var wait sync.WaitGroup
	for _, n := range order {
		wait.Go(func() {
			collectors <- struct{}{}
			defer func() { <-collectors }()
			f.node(ctx, n, of[n])
		})
	}
	wait.Wait()
	cleaning, cancel := context.WithTimeout(context.Background(), cleanupTime)
	defer cancel()
	return errors.Join(f.errs, f.room.leave(cleaning, c))
}

type fleet struct {
	c     *kubernetes.Cluster
	o     Options
	l     Limits
	do    func(int, *Session, error)
	slots chan struct{}

	room *room // the namespace that its sessions share

	mu   sync.Mutex
	errs error
}

// node does what is to be done on one node.
func (f *fleet) node(ctx context.Context, name string, items []int) {
	s, err := startIn(ctx, f.c, name, f.o, f.room)
	if err != nil {
		for _, i := range items {
			f.do(i, nil, err)
		}
		return
	}
	todo := make(chan int, len(items))
	for _, i := range slices.Sorted(slices.Values(items)) {
		todo <- i
	}
	close(todo)
	var wait sync.WaitGroup
	for range min(f.l.Node, len(items)) {
		wait.Go(func() {
			for i := range todo {
				f.slots <- struct{}{}
				if ctx.Err() != nil {
					f.do(i, nil, context.Cause(ctx))
				} else {
					f.do(i, s, nil)
				}
				<-f.slots
			}
		})
	}
	wait.Wait()
	if err := s.Close(); err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.errs = errors.Join(f.errs, err)
	}
}
