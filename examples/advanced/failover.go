package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"image"
	"image/png"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// failover has one host fail whatever is run there, and a simulated one be too small for a workflow.
func (p *play) failover(ctx context.Context) error {
	p.say("\n3  Failover by a policy of ours\n   Pictures cannot be read on one host any more. The fleet blocks pair after pair; the policy looks at the host.")
	if err := p.die(ctx); err != nil {
		return err
	}
	if len(p.fleet.hosts) < 2 {
		p.say("   It takes two hosts; there is one.")
		return nil
	}
	if err := p.tooBig(ctx, 1); err != nil {
		return err
	}
	host := p.fleet.hosts[1].Name
	var drawn bytes.Buffer
	if err := png.Encode(&drawn, image.NewGray(image.Rect(0, 0, 64, 64))); err != nil {
		return err
	}
	name := strings.ToLower(rand.Text()) + ".png"
	if err := p.fleet.upload(ctx, name, drawn.Bytes(), host); err != nil {
		return err
	}
	rounds, err := p.fail(ctx, host, name)
	if err != nil {
		return err
	}
	if err := p.avoid(ctx, host, name, rounds); err != nil {
		return err
	}
	if err := p.fleet.upload(ctx, strings.TrimSuffix(name, ".png")+"-2.png", drawn.Bytes()); err != nil {
		return err
	}
	if err := p.recover(ctx, host, strings.TrimSuffix(name, ".png")+"-2.png"); err != nil {
		return err
	}
	return p.tooBig(ctx, 2)
}

// fail has workflows fail on the host, two at a time, until the policy has drained it. One pair is enough unless the first block
// is over before the second begins.
func (p *play) fail(ctx context.Context, host, picture string) (rounds int, err error) {
	const most = 5
	for rounds = 1; rounds <= most; rounds++ {
		for variant := range 2 {
			spec := jetstream.Spec{ID: jetstream.ID(fmt.Sprintf("fault-%d%d", rounds, variant)), Workflow: loading(picture, variant), PreferHosts: []string{host}}
			if err := p.submit(ctx, "acme", spec); err != nil {
				return rounds, err
			}
			if err := p.record.ended(ctx, 1, string(spec.ID)); err != nil {
				return rounds, err
			}
		}
		waiting, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := p.watch.noted(waiting, "drained "+host)
		cancel()
		if err == nil || !errors.Is(err, context.DeadlineExceeded) {
			return rounds, err
		}
	}
	return most, nil
}

// avoid has a workflow come that would fail on the host, too.
func (p *play) avoid(ctx context.Context, host, picture string, rounds int) error {
	for n := range 3 {
		spec := jetstream.Spec{ID: jetstream.ID(fmt.Sprintf("after-%d", n)), Workflow: loading(picture, 2), PreferHosts: []string{host}}
		if err := p.submit(ctx, "acme", spec); err != nil {
			return err
		}
	}
	if err := p.record.ended(ctx, 3, "after-"); err != nil {
		return err
	}
	failed, completed := p.record.of("failed", "fault-"), p.record.of("completed", "fault-")
	p.claim(len(failed) >= 2 && len(completed) == 2*rounds && p.count("completed", "fault-", host) == 0, "two workflows fail on "+host+" and complete elsewhere",
		"%d failed, %d completed", len(failed), len(completed))
	p.claim(p.watch.noted(ctx, "drained "+host) == nil, "the policy drains "+host, "two blocks at the same time")
	p.claim(p.count("completed", "after-", "") == 3 && p.count("started", "after-", host) == 0, "a third workflow is not tried there any more",
		"%d jobs completed elsewhere", p.count("completed", "after-", ""))
	return nil
}

// recover waits until the policy has resumed the host, on which pictures can be read again.
func (p *play) recover(ctx context.Context, host, picture string) error {
	if err := p.watch.noted(ctx, "resumed "+host); err != nil {
		return err
	}
	spec := jetstream.Spec{ID: "back-1", Workflow: loading(picture, 2), OnlyHosts: []string{host}}
	if err := p.submit(ctx, "acme", spec); err != nil {
		return err
	}
	if err := p.record.ended(ctx, 1, "back-1"); err != nil {
		return err
	}
	p.claim(p.count("completed", "back-1", host) == 1, "the policy resumes "+host+" when its blocks are over", "it runs jobs again")
	return nil
}

// tooBig has a workflow run out of memory on the first host, if that is simulated: at first it is tried there, and then never again.
func (p *play) tooBig(ctx context.Context, try int) error {
	if len(p.fleet.sims) == 0 {
		return nil
	}
	host := p.fleet.hosts[0].Name
	if try == 1 {
		p.fleet.sims[0].AddFault(comfysim.Fault{Kind: comfysim.FaultOOM, MinSize: 2000 * 2000})
	}
	id := fmt.Sprintf("big-%d", try)
	spec := jetstream.Spec{ID: jetstream.ID(id), Workflow: p.big(try), PreferHosts: []string{host}}
	if err := p.submit(ctx, "bolt", spec); err != nil {
		return err
	}
	if err := p.record.ended(ctx, 1, id); err != nil {
		return err
	}
	if try == 1 {
		return p.watch.noted(ctx, "keeps workflow ")
	}
	failed := p.record.all(func(e *seen) bool { return e.EventKind == job.Failed && strings.HasPrefix(string(e.Job), "big-") })
	p.claim(len(failed) == 1 && failed[0].Host == host && p.count("completed", "big-", "") == 2 && p.count("started", id, host) == 0,
		"the policy keeps a workflow away from "+host+", which is too small for it", "it ran out of memory once")
	return nil
}

// die has a job end dead, so that the watcher sees one.
func (p *play) die(ctx context.Context) error {
	spec := jetstream.Spec{ID: "broken-1", Workflow: []byte(`{"1":{"class_type":"SaveImage","inputs":{"images":["2",0]}}}`)}
	if err := p.submit(ctx, "coral", spec); err != nil {
		return err
	}
	return p.record.ended(ctx, 1, "broken-1")
}

// count is how many events of a kind there are of the jobs whose ids begin so, on a host or, with an empty name, on any.
func (p *play) count(kind, prefix, host string) int {
	n := 0
	for _, e := range p.record.of(kind, prefix) {
		if host == "" || e.Host == host {
			n++
		}
	}
	return n
}
