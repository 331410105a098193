package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

const (
	barSteps = 1000
	barWidth = 30
	idWidth  = 36
)

// bars shows a live line for every job that is under way, and leaves a plain one behind for every job that ended.
type bars struct {
	all *mpb.Progress
	c   *console
	now func() time.Time // NATS'

	mu   sync.Mutex // guards the field below
	jobs map[jetstream.ID]*bar
}

type bar struct {
	*mpb.Bar
	text atomic.Pointer[string] // written by whoever hears of the job, read by the painter
}

func newBars(c *console, now func() time.Time) *bars {
	return &bars{
		all: mpb.New(mpb.WithOutput(c.err), mpb.WithWidth(barWidth), mpb.WithRefreshRate(100*time.Millisecond)),
		c:   c, now: now, jobs: map[jetstream.ID]*bar{},
	}
}

func (b *bars) of(id jetstream.ID) *bar {
	b.mu.Lock()
	defer b.mu.Unlock()
	if found := b.jobs[id]; found != nil {
		return found
	}
	added := &bar{}
	added.tell("submitted")
	added.Bar = b.all.New(barSteps, mpb.BarStyle().Lbound("").Filler("█").Tip("█").Padding("░").Rbound(""),
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(short(clean(string(id)), idWidth), decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return " " + *added.text.Load() })),
	)
	b.jobs[id] = added
	return added
}

func (b *bar) tell(text string) {
	text = short(clean(text), 80)
	b.text.Store(&text)
}

func (b *bars) happened(e *jetstream.Event) {
	text := happening(e, b.now())
	switch line := b.of(e.Job); {
	case e.EventKind.Terminal():
		line.Abort(true)
		line.Wait()
		b.tell(e, text)
	case e.EventKind == job.Started || e.EventKind == job.Queued || e.EventKind == job.Waiting:
		line.tell(text)
		line.SetCurrent(0)
	default: // what went wrong stays to be read
		line.tell(text)
		b.tell(e, text)
	}
}

func (b *bars) progressed(id jetstream.ID, p jetstream.Progress) {
	line := b.of(id)
	line.tell(progressText(p))
	line.SetCurrent(min(int64(share(p)*barSteps), barSteps-1)) // the end is told by its event
}

// tell leaves a plain line behind.
func (b *bars) tell(e *jetstream.Event, text string) {
	b.write(plain(string(e.Job)+": ") + paint(colourful(b.c.err), hue(string(e.EventKind)), text))
}

func (b *bars) say(text string) { b.write(plain(text)) }

// write writes a line above the live ones. After the last of them the painter takes no more.
func (b *bars) write(text painted) {
	if _, err := b.all.Write([]byte(text + "\n")); err != nil {
		fmt.Fprintln(b.c.err, text)
	}
}

// result keeps a line for standard output from running into the live ones when both are on one terminal.
func (b *bars) result(line string) {
	if isTerminal(b.c.out) {
		b.say(line)
		return
	}
	b.c.print("%s", line)
}

func (b *bars) close() {
	b.mu.Lock()
	for _, line := range b.jobs {
		line.Abort(true)
	}
	b.mu.Unlock()
	b.all.Wait()
}
