package gateway

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// bodies are what prompts submitted, until it is stored. A client does not wait for that: its prompt runs meanwhile, and is shown with
// the body that is here.
type bodies struct {
	storing sync.WaitGroup
	room    chan struct{} // has a value for each body that is being stored

	mu      sync.Mutex // guards the one below
	waiting map[string][]byte
}

const (
	mostBodies    = 64        // that are being stored while their clients are answered
	largestWaited = 128 << 10 // the client of a larger one waits until it is stored
	bodyTimeout   = 30 * time.Second
)

func newBodies() *bodies {
	return &bodies{room: make(chan struct{}, mostBodies), waiting: map[string][]byte{}}
}

// storeBody stores what was submitted, without secrets.
func (g *Gateway) storeBody(ctx context.Context, of job.Tenant, p *prompt) {
	b, name, body := g.bodies, queue.BodyName(of, p.id), storedBody(p)
	b.put(name, body)
	b.room <- struct{}{}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), bodyTimeout)
	store := func() {
		defer func() {
			cancel()
			b.remove(name)
			<-b.room
		}()
		if _, err := g.q.StoreOutput(ctx, name, "application/json", bytes.NewReader(body)); err != nil { // the prompt runs all the same
			g.log.Warn("what a prompt submitted is not stored, so that its graph is not shown after its end", "tenant", of, "job", p.id, "error", err)
		}
	}
	if len(body) > largestWaited {
		store()
		return
	}
	b.storing.Go(store)
}

func (b *bodies) put(name string, body []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting[name] = body
}

func (b *bodies) remove(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.waiting, name)
}

// of is the body of a prompt that is being stored; nil when it is stored, or came to another gateway.
func (b *bodies) of(name string) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting[name]
}

// bodyBehind is how long after the end of a prompt the gateway that took it may still be storing what was submitted.
const bodyBehind = 2 * time.Second

// submitted reads what was submitted as a prompt, as it is stored; queue.ErrNoFile when it is not.
func (g *Gateway) submitted(ctx context.Context, of job.Tenant, row *Row) ([]byte, error) {
	name := queue.BodyName(of, row.Job)
	for {
		if body := g.bodies.of(name); body != nil {
			return body, nil
		}
		body, err := g.readOutput(ctx, name, largestPrompt+largestPrompt/4)
		late := row.Ended() && row.Submission.Created != 0 && g.q.Now().Sub(row.Time) < bodyBehind
		if !errors.Is(err, queue.ErrNoFile) || !late || !queue.Pause(ctx, bodyPause) {
			return body, err
		}
	}
}

const bodyPause = 20 * time.Millisecond
