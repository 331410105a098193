package daemon

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

const (
	progressSteps = 1000
	progressWidth = 30
	nameWidth     = 36
	remarkWidth   = 80
)

// Progress shows a live line with a bar for each of several named works below each other on a terminal. Other text goes
// above them, through WriteLine. Its methods may be called from any goroutine.
type Progress struct {
	out io.Writer
	all *mpb.Progress

	mu    sync.Mutex // guards the field below
	works map[string]*work
}

type work struct {
	*mpb.Bar
	remark atomic.Pointer[string] // written by Show, read by the goroutine that draws
}

// NewProgress begins with no line. Close ends it.
func NewProgress(out io.Writer) *Progress {
	return &Progress{
		out: out, works: map[string]*work{},
		all: mpb.New(mpb.WithOutput(out), mpb.WithWidth(progressWidth), mpb.WithRefreshRate(100*time.Millisecond)),
	}
}

// Show sets the share, 0 to 1, and the remark of a work, and adds its line when it has none.
func (p *Progress) Show(name string, share float64, remark string) {
	p.work(name, remark).SetCurrent(min(int64(share*progressSteps), progressSteps-1)) // at the maximum mpb removes the line
}

// Remark replaces the remark of a work and leaves its share as it is.
func (p *Progress) Remark(name, remark string) { p.work(name, remark) }

func (p *Progress) work(name, remark string) *work {
	remark = Short(Printable(remark), remarkWidth)
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.works[name]
	if w != nil {
		w.remark.Store(&remark)
		return w
	}
	w = &work{}
	w.remark.Store(&remark)
	w.Bar = p.all.New(progressSteps, mpb.BarStyle().Lbound("").Filler("█").Tip("█").Padding("░").Rbound(""),
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(Short(Printable(name), nameWidth), decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return " " + *w.remark.Load() })),
	)
	p.works[name] = w
	return w
}

// Remove takes the line of a work away.
func (p *Progress) Remove(name string) {
	p.mu.Lock()
	w := p.works[name]
	p.mu.Unlock()
	if w != nil {
		w.Abort(true)
		w.Wait()
	}
}

// WriteLine writes a line above the live ones.
func (p *Progress) WriteLine(text Painted) {
	if _, err := p.all.Write([]byte(text + "\n")); err != nil { // mpb takes no more after its last line
		fmt.Fprintln(p.out, text)
	}
}

// Close removes all lines and waits until the terminal shows that.
func (p *Progress) Close() {
	p.mu.Lock()
	for _, w := range p.works {
		w.Abort(true)
	}
	p.mu.Unlock()
	p.all.Wait()
}
