//go:build unix

package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

// letters compares COMFY_DEAD with the chains.
func (c *checker) letters() []string {
	stored, err := read(c.f.nc, "COMFY_DEAD", 1, calmTime)
	if err != nil {
		return []string{err.Error()}
	}
	letters := map[string]int{}
	for _, s := range stored {
		letters[strings.TrimPrefix(s.subject, "comfy.dead.")+"/"+s.header.Get("Comfy-Job-Id")]++
	}
	var found []string
	for key, chain := range c.ledger.chains {
		dead := 0
		if chain[len(chain)-1].EventKind == job.Dead {
			dead = 1
		}
		if letters[key] != dead {
			found = append(found, fmt.Sprintf("%s has %d letters: %s", key, letters[key], kinds(chain)))
		}
	}
	return found
}

// inFlight looks for messages and deliveries that nobody has finished.
func (c *checker) inFlight() []string {
	var found []string
	var jobs struct {
		State struct {
			Messages int `json:"messages"`
		} `json:"state"`
	}
	if err := c.ask("STREAM.INFO.COMFY_JOBS", &jobs); err != nil || jobs.State.Messages != 0 {
		found = append(found, fmt.Sprintf("COMFY_JOBS holds %d messages (%v)%s", jobs.State.Messages, err, c.leftJobs()))
	}
	consumers := []string{"COMFY_EVENTS.settle", "KV_COMFY_BLOCKS.announce"}
	for p := range 10 {
		consumers = append(consumers, fmt.Sprintf("COMFY_JOBS.dispatch_%d", p))
	}
	for _, name := range consumers {
		var info struct {
			Pending int `json:"num_pending"`
			Acks    int `json:"num_ack_pending"`
		}
		if err := c.ask("CONSUMER.INFO."+name, &info); err != nil || info.Pending+info.Acks != 0 {
			found = append(found, fmt.Sprintf("consumer %s has %d pending and %d unacked (%v)", name, info.Pending, info.Acks, err))
		}
	}
	return found
}

// leftJobs names what stands in COMFY_JOBS.
func (c *checker) leftJobs() string {
	left, _ := read(c.f.nc, "COMFY_JOBS", 1, answerTime)
	var text strings.Builder
	for _, s := range left {
		var spec struct {
			ID job.ID `json:"id"`
		}
		_ = json.Unmarshal(s.body, &spec) // one that is no job has no id
		key := strings.Split(s.subject, ".")[2] + "/" + string(spec.ID)
		fmt.Fprintf(&text, "; %d %s: %s", s.sequence, key, kinds(c.ledger.chains[key]))
	}
	return text.String()
}

// ask calls the JetStream API.
func (c *checker) ask(what string, answer any) error {
	msg, err := c.f.nc.Request("$JS.API."+what, nil, 8*time.Second)
	if err != nil {
		return err
	}
	var failed struct {
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &failed); err != nil {
		return err
	}
	if failed.Error != nil {
		return fmt.Errorf("%s: %s", what, failed.Error.Description)
	}
	return json.Unmarshal(msg.Data, answer)
}

// keys finds live keys in buckets that must be empty, and in the others keys and markers that would stay for ever.
func (c *checker) keys() []string {
	var found []string
	for bucket, lives := range map[string]bool{"WAITING": false, "BLOCKS": false, "STRIKES": true} {
		messages, err := read(c.f.nc, "KV_COMFY_"+bucket, 1, calmTime)
		if err != nil {
			found = append(found, err.Error())
		}
		for _, m := range messages {
			if m.live() && !lives {
				found = append(found, fmt.Sprintf("%s stands in COMFY_%s: %s", m.subject, bucket, m.body))
			}
			if m.header.Get("Nats-TTL") == "" {
				found = append(found, fmt.Sprintf("%s in COMFY_%s has no time to live: %v %s", m.subject, bucket, m.header, m.body))
			}
		}
	}
	return found
}

// cancelTime is what an agent may take to stop the prompt of a job that has ended elsewhere.
const cancelTime = 6 * time.Second

func (c *checker) busyHosts() []string {
	var found []string
	for _, host := range c.f.shape.hosts() {
		var n int
		var err error
		c.f.within(cancelTime, func(context.Context) bool {
			n, err = c.f.backlog(host)
			return err == nil && n == 0
		})
		if err != nil || n > 0 {
			found = append(found, fmt.Sprintf("host %s still has %d prompts (%v)", host, n, err))
		}
	}
	return found
}

func (c *checker) blocks() []string {
	var found []string
	for pair, spans := range c.ledger.blocks {
		for _, b := range spans {
			if !b.lifted {
				found = append(found, fmt.Sprintf("%s was blocked at %s and never unblocked", pair, clock(b.from)))
			}
		}
	}
	return found
}

// settled reports whether all that is to happen has happened: what the final invariants need.
func (c *checker) settled() bool {
	if err := c.ledger.readOn(c.f.nc, answerTime); err != nil {
		c.lacking = []string{err.Error()}
		return false
	}
	lacking := slices.Concat(c.unended(), c.inFlight(), c.keys(), c.blocks())
	if len(lacking) > 0 {
		c.lacking = lacking
	}
	return len(lacking) == 0
}

// gone checks that presence ends with whom it tells of, and that everybody ends in good order.
func (c *checker) gone() {
	t := c.f.t
	t.Helper()
	began := time.Now()
	defer func() { t.Logf("the fleet was down after %v", time.Since(began).Round(time.Millisecond)) }()
	for _, p := range c.f.all {
		if p.name[0] != 'a' && p.name[0] != 'd' {
			continue
		}
		if how := p.terminate(15 * time.Second); how != "exit code 0" {
			t.Errorf("%s after SIGTERM: %s", p.name, how)
		}
	}
	for _, bucket := range []string{"KV_COMFY_HOSTS", "KV_COMFY_DISPATCHERS"} {
		messages, err := read(c.f.nc, bucket, 1, calmTime)
		if err != nil {
			t.Error(err)
		}
		for _, m := range messages {
			if m.live() {
				t.Errorf("%s is left behind: %s", m.subject, m.body)
			}
		}
	}
	for _, p := range c.f.all {
		if p.up() {
			if how := p.terminate(15 * time.Second); how != "exit code 0" {
				t.Errorf("%s after SIGTERM: %s", p.name, how)
			}
		}
	}
}
