package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"

	"github.com/comfyherd/comfyherd/internal/comfysim"
)

// runDirect posts jobs directly to the simulated hosts, without NATS and comfyherd, and gives the most jobs a second that the hosts
// can run, and the time between two jobs on one host.
func runDirect(ctx context.Context, cfg *Config, l *load) (float64, Spread, error) {
	s := &stage{cfg: cfg, load: l}
	defer func() {
		for _, sim := range s.sims {
			sim.Close()
		}
	}()
	for i := range cfg.Hosts {
		if _, err := s.sim(fmt.Sprintf("direct-%04d", i)); err != nil {
			return 0, Spread{}, err
		}
	}
	defer reporting("hosts alone", cfg.Jobs, s.ran, cfg.Progress)()
	start := time.Now()
	failed := make([]error, cfg.Hosts)
	var filling sync.WaitGroup
	for h, sim := range s.sims {
		filling.Go(func() { failed[h] = fill(ctx, cfg, l, sim, h) })
	}
	filling.Wait()
	for _, err := range failed {
		if err != nil {
			return 0, Spread{}, err
		}
	}
	rate, gaps := float64(cfg.Jobs)/time.Since(start).Seconds(), &samples{}
	for _, sim := range s.sims {
		gaps.between(sim.Runs())
	}
	return rate, gaps.spread(), nil
}

// ran is how many prompts the simulated hosts have begun.
func (s *stage) ran() int {
	n := 0
	for _, sim := range s.sims {
		n += len(sim.Runs())
	}
	return n
}

// directClient posts the jobs. Like ComfyUI's own page it has a websocket open, so that hosts send it their messages.
const directClient = "direct"

// fill posts every Hosts-th job to a host and waits until all have ended.
func fill(ctx context.Context, cfg *Config, l *load, sim *comfysim.Server, first int) error {
	hangUp, err := readSocket(ctx, sim.URL())
	if err != nil {
		return err
	}
	defer hangUp()
	posted := 0
	for i := first; i < cfg.Jobs; i += cfg.Hosts {
		if err := post(ctx, sim.URL(), l.body(i)); err != nil {
			return err
		}
		posted++
	}
	_, err = sim.WaitEnded(ctx, posted)
	return err
}

// readSocket opens a websocket to a host and reads it until it is closed.
func readSocket(ctx context.Context, url string) (hangUp func(), err error) {
	socket, answer, err := websocket.DefaultDialer.DialContext(ctx, "ws"+strings.TrimPrefix(url, "http")+"/ws?clientId="+directClient, nil)
	if err != nil {
		return nil, fmt.Errorf("listen to a host: %w", err)
	}
	_ = answer.Body.Close() // empty, since the protocol was switched
	var listening sync.WaitGroup
	listening.Go(func() {
		for {
			if _, _, err := socket.ReadMessage(); err != nil {
				return
			}
		}
	})
	return func() {
		_ = socket.Close()
		listening.Wait()
	}, nil
}

func post(ctx context.Context, url string, workflow []byte) error {
	body, err := json.Marshal(map[string]any{"prompt": json.RawMessage(workflow), "prompt_id": uuid.NewString(), "client_id": directClient})
	if err != nil {
		return fmt.Errorf("encode prompt: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/prompt", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("post prompt: %w", err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("post prompt: %w", err)
	}
	defer func() { _ = answer.Body.Close() }() // it was read, or its loss shows in the status
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 500))
		return fmt.Errorf("post prompt: %s: %s", answer.Status, text)
	}
	return nil
}
