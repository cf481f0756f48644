package podman

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/sherd-forensics/sherd/target"
)

// service is Podman's HTTP API (https://docs.podman.io/en/latest/_static/api.html) on a Unix socket.
type service struct {
	socket string
	http   http.Client
}

// maxAnswer bounds one answer of the service.
const maxAnswer = 16 << 20

// dial asks the service where its storage is.
func dial(p target.Places, host, from string) (*service, store, error) {
	scheme, rest, ok := strings.Cut(host, "://")
	if !ok {
		scheme, rest = "unix", host
	}
	if scheme != "unix" {
		return nil, store{}, fmt.Errorf("%s: Podman can't be reached by %s://; run sherd-collector on that machine, or name a unix:// socket", from, scheme)
	}
	ctx, cancel := context.WithTimeout(context.Background(), target.Asking)
	defer cancel()
	at, err := p.FindSocket(ctx, "Podman", []target.Candidate{{Path: rest, From: from}})
	if err != nil {
		return nil, store{}, err
	}
	s := &service{socket: at}
	s.http.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", at)
	}}
	b, err := s.get(ctx, "/info")
	if err != nil {
		return nil, store{}, err
	}
	var info struct {
		Store struct {
			Root    string `json:"graphRoot"`
			RunRoot string `json:"runRoot"`
		} `json:"store"`
	}
	if err := json.Unmarshal(b, &info); err != nil {
		return nil, store{}, fmt.Errorf("Podman at %s: /info: %w", at, err) //nolint:revive,staticcheck // Podman is a name
	}
	return s, store{root: info.Store.Root, runRoot: info.Store.RunRoot}, nil
}

func (s *service) get(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, target.Asking)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://podman/v4.0.0/libpod"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, target.Answer("Podman", s.socket, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("Podman at %s: %w", s.socket, err) //nolint:revive,staticcheck // Podman is a name
	}
	if len(b) > maxAnswer {
		return nil, fmt.Errorf("Podman at %s: %s is larger than %d MiB", s.socket, path, maxAnswer>>20) //nolint:revive,staticcheck // Podman is a name
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("Podman at %s: %s: %s", s.socket, path, resp.Status) //nolint:revive,staticcheck // Podman is a name
	}
	return b, nil
}
