package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// photo is the file in COMFY_INPUTS that the retouch loads. It is damaged at first, and so the job fails on every host.
const photo = "coral/photo.png"

// retouching needs no weights, and makes a negative.
func retouching() json.RawMessage {
	return graphOf(map[string]any{
		"1": graphNode("LoadImage", "image", "photo.png"),
		"2": graphNode("ImageInvert", "image", []any{"1", 0}),
		"3": graphNode("SaveImage", "images", []any{"2", 0}, "filename_prefix", retouch),
	})
}

// put stores the photo, whole or damaged.
func (d *demo) put(ctx context.Context, whole bool) error {
	body := []byte(damagedPicture)
	if whole {
		var err error
		if body, err = sheet(); err != nil {
			return err
		}
	}
	_, err := d.fleet.client("coral").PutFile(ctx, photo, "image/png", bytes.NewReader(body))
	return err
}

func (*demo) lookFault() string {
	return "Coral has uploaded a photo that was damaged on the way. Look at job-13: it fails on a second host in the same way, so it is not the hosts' fault."
}

// playFault ends when the job, mended, has completed.
func (d *demo) playFault(ctx context.Context) error {
	if err := d.put(ctx, false); err != nil {
		return err
	}
	if err := d.submit(ctx, faulty); err != nil {
		return err
	}
	if err := d.until(ctx, func() bool { return d.ended(faulty) && len(d.blamed()) == 0 }); err != nil {
		return err
	}
	if err := d.put(ctx, true); err != nil {
		return err
	}
	d.out.say("")
	d.out.text("   ", "Coral uploads the photo again, now a whole one, and runs the dead job again: dispatcher dead requeue coral/job-13")
	d.out.say("")
	answer, err := d.fleet.client("coral").Requeue(ctx, jetstream.RequeueRequest{Job: d.jobs[faulty-1].id()})
	if err != nil || answer.Count == 0 {
		return err
	}
	return d.until(ctx, func() bool { return d.ended(mended) })
}

// blamed are the hosts on which retouches are blocked.
func (d *demo) blamed() []string {
	var hosts []string
	for _, h := range d.stage.hosts() {
		if blocked, unblocked := d.record.block(h.Name, d.hashes[retouch]); blocked != nil && unblocked == nil {
			hosts = append(hosts, h.Name)
		}
	}
	return hosts
}

func (d *demo) claimFault() []claim {
	id := d.jobs[faulty-1].id()
	twice := claim{what: "the retouch fails on two hosts with the same error"}
	if failed := d.record.jobs(id, job.Failed); len(failed) == 2 {
		one, two := failed[0].job, failed[1].job
		twice.seen = one.Host != two.Host && one.Exception == two.Exception && one.Kind == failure.ExecutionError
		twice.how = one.Host + ", " + two.Host
	}
	dead := claim{what: "its job is dead by its own fault"}
	if end := d.record.end(id); end != nil && end.EventKind == job.Dead {
		dead.seen, dead.how = end.Reason == string(failure.WorkflowFault), strings.ReplaceAll(end.Reason, "_", " ")
	}
	free := claim{what: "no block of it remains"}
	ends := d.record.all(func(s *observation) bool {
		return s.unblocked != nil && s.unblocked.Hash == d.hashes[retouch] && s.unblocked.Cause == queue.WorkflowFault
	})
	free.seen = len(ends) > 0 && len(d.blamed()) == 0
	again := claim{what: "requeued with a whole photo it completes"}
	if host := d.record.completedOn(d.jobs[mended-1].id()); host != "" {
		again.seen, again.how = true, fmt.Sprintf("%s on %s", d.jobs[mended-1].id(), host)
	}
	return []claim{twice, dead, free, again}
}
