package demo

import (
	"context"
	"errors"
	"fmt"
	"image/color"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
)

// finish fetches the pictures and shows the tables.
func (d *demo) finish(ctx context.Context) error {
	pictures, err := d.fetch(ctx)
	if err != nil && !errors.Is(err, errTimeout) {
		return err
	}
	d.out.headline("", "In numbers", "")
	if err := errors.Join(d.tenants(), d.hosts(), d.blocks()); err != nil {
		return err
	}
	d.out.say("%s", d.dispatchers())
	wanted := 0
	for i := range d.jobs {
		if !d.jobs[i].dies {
			wanted++
		}
	}
	d.printClaims([]claim{
		{"every job ends exactly once", d.endedOnce(), daemon.Plural(len(d.jobs), "job")},
		{"every picture is its own job's", pictures == wanted, daemon.Plural(pictures, "picture") + " from COMFY_OUTPUTS"},
	})
	if pictures > 0 {
		d.out.say("")
		d.out.say("Pictures: %s", d.o.Pictures)
	}
	return nil
}

func (d *demo) endedOnce() bool {
	return !slices.ContainsFunc(d.jobs, func(p plannedJob) bool {
		ends := d.record.all(func(s *observation) bool {
			return s.job != nil && s.job.Job == p.id() && s.job.EventKind.Terminal()
		})
		return len(ends) != 1
	})
}

// result is an error that names what was not observed.
func (d *demo) result() error {
	if len(d.unobserved) > 0 {
		d.out.say("")
		within := ""
		if d.late {
			within = fmt.Sprintf(" within the %v that it may take", d.o.timeout)
		}
		return fmt.Errorf("the demo did not observe%s: %s; `dispatcher demo --verbose` shows what dispatchers and agents did", within, strings.Join(d.unobserved, "; "))
	}
	d.out.say("")
	d.out.say("All of this was observed in the event stream, in %v. Now with hosts of yours:", time.Since(d.record.started).Round(100*time.Millisecond))
	d.out.say("")
	remark := func(text string) string {
		if d.out.narrow() {
			return ""
		}
		return "  " + text
	}
	d.out.say("  dispatcher run                         %s", remark("the queue, with NATS in it"))
	d.out.say("  COMFY_HOSTS=http://127.0.0.1:8188 agent%s", remark("beside each ComfyUI"))
	d.out.say("  dispatcher submit workflow_api.json --wait --out .")
	return nil
}

// fetch writes the picture of every completed job to <folder>/<job>-<tenant>-<workflow>.png and counts those that are
// what their job asked for.
func (d *demo) fetch(ctx context.Context) (right int, err error) {
	pictures := daemon.Saver{Open: func(ctx context.Context, object string, offset int64) (io.ReadCloser, error) {
		body, _, err := d.fleet.q.OpenOutputAt(ctx, object, offset)
		return body, err
	}}
	for i := range d.jobs {
		p := &d.jobs[i]
		e := d.record.end(p.id())
		if e == nil || e.EventKind != job.Completed || len(e.Outputs) != 1 {
			continue
		}
		if d.o.Pictures == "" {
			if d.o.Pictures, err = os.MkdirTemp("", "comfyherd-pictures-"); err != nil {
				return right, fmt.Errorf("make a folder for the pictures: %w", err)
			}
		}
		path := filepath.Join(d.o.Pictures, fmt.Sprintf("%s-%s-%s.png", p.id(), p.tenant, p.workflow))
		if err := pictures.Save(ctx, &e.Outputs[0], path); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return right, err
		}
		if drawn, is := colourOf(path); is && near(drawn, d.colour[p.id()]) {
			right++
		}
	}
	return right, nil
}

// colourOf is the colour of a picture's first pixel.
func colourOf(path string) (c color.RGBA, is bool) {
	file, err := os.Open(path)
	if err != nil {
		return c, false
	}
	defer file.Close()
	drawn, err := png.Decode(file)
	if err != nil {
		return c, false
	}
	c, is = color.RGBAModel.Convert(drawn.At(drawn.Bounds().Min.X, drawn.Bounds().Min.Y)).(color.RGBA)
	return c, is
}

// near allows for ComfyUI's rounding, which is one off after some nodes. The colours of two posters differ by more.
func near(a, b color.RGBA) bool {
	for _, pair := range [...][2]uint8{{a.R, b.R}, {a.G, b.G}, {a.B, b.B}} {
		if max(pair[0], pair[1])-min(pair[0], pair[1]) > 1 {
			return false
		}
	}
	return true
}

// tally sums the runs of some jobs.
type tally struct {
	jobs, attempts, completed, failed int
	ran, waited                       time.Duration
	by                                map[string]int // starts, by workflow
}

func (d *demo) tally(fits func(*job.Event) bool) tally {
	t := tally{by: map[string]int{}}
	for _, s := range d.record.seen {
		if s.job == nil || !fits(s.job) {
			continue
		}
		switch s.job.EventKind {
		case job.Queued:
			t.jobs++
		case job.Started:
			t.attempts++
			t.by[d.workflowOf(s)]++
		case job.Failed:
			t.failed++
		case job.Completed:
			t.completed++
			t.ran += time.Duration(s.job.RanFor)
			t.waited = max(t.waited, time.Duration(s.job.QueuedFor))
		}
	}
	return t
}

func (d *demo) tenants() error {
	rows := [][]string{{"TENANT", "JOBS", "COMPLETED", "ATTEMPTS", "RAN", "LONGEST WAIT"}}
	for _, tenant := range []job.Tenant{"acme", "bolt", "coral"} {
		t := d.tally(func(e *job.Event) bool { return e.Tenant == tenant })
		rows = append(rows, []string{string(tenant), fmt.Sprint(t.jobs), fmt.Sprint(t.completed), fmt.Sprint(t.attempts), daemon.Span(t.ran), daemon.Span(t.waited)})
	}
	return d.out.table(rows)
}

func (d *demo) hosts() error {
	wide := !d.out.narrow()
	rows := [][]string{{"HOST", "ATTEMPTS", "COMPLETED", "FAILED", "PORTRAITS", "POSTERS", "RAN"}}
	if wide {
		rows[0] = slices.Insert(rows[0], 6, "RETOUCHES")
	}
	for _, h := range d.stage.hosts() {
		t := d.tally(func(e *job.Event) bool { return e.Host == h.Name })
		row := []string{
			h.Name, fmt.Sprint(t.attempts), fmt.Sprint(t.completed), fmt.Sprint(t.failed),
			fmt.Sprint(t.by[portrait]), fmt.Sprint(t.by[poster]), daemon.Span(t.ran),
		}
		if wide {
			row = slices.Insert(row, 6, fmt.Sprint(t.by[retouch]))
		}
		rows = append(rows, row)
	}
	return d.out.table(rows)
}

func (d *demo) blocks() error {
	rows := [][]string{{"BLOCK", "WORKFLOW", "FOR", "BEGAN", "ENDED", "HOW", "BY"}}
	for _, s := range d.record.seen {
		if s.block == nil {
			continue
		}
		workflow := d.workflowOf(s)
		if !d.out.narrow() {
			workflow += " " + s.block.Hash.Short()
		}
		row := []string{string(s.block.Host), workflow, holders(s.block), d.clock(s), "", "", string(s.block.Job)}
		if end := d.record.endOf(s); end != nil {
			row[4], row[5] = d.clock(end), daemon.Spaces(string(end.unblocked.Cause))
		}
		rows = append(rows, row)
	}
	if len(rows) == 1 {
		return nil
	}
	return d.out.table(rows)
}

// dispatchers says which of them took how many jobs in.
func (d *demo) dispatchers() string {
	took := map[string]int{}
	for _, s := range d.record.seen {
		if s.job != nil && s.job.EventKind == job.Queued {
			took[s.source[strings.LastIndexByte(s.source, '/')+1:]]++
		}
	}
	return fmt.Sprintf("Taken in by dispatcher-1: %s, by dispatcher-2: %s.\n", daemon.Plural(took["dispatcher-1"], "job"), daemon.Plural(took["dispatcher-2"], "job"))
}

// workflowOf is the name of the workflow that an observation is about.
func (d *demo) workflowOf(s *observation) string {
	for name, hash := range d.hashes {
		switch {
		case s.job != nil && s.job.Hash == hash, s.block != nil && s.block.Hash == hash, s.unblocked != nil && s.unblocked.Hash == hash:
			return name
		}
	}
	return ""
}

// clock is the time since the demo began.
func (d *demo) clock(s *observation) string {
	return fmt.Sprintf("%.2fs", max(s.time.Sub(d.record.started), 0).Seconds())
}
