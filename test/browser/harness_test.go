package browser_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dashboard"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// testTimeout is the longest wait for what a story expects.
const testTimeout = 30 * time.Second

// noBrowser is the one line that says why nothing was tested.
const noBrowser = "no Chromium on this machine, so the page was not tried in a browser; `apt-get install chromium` gets one"

// browserPath is the browser of this machine; empty when there is none.
func browserPath() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// fleet is NATS, one dispatcher, simulated hosts, and the page.
type fleet struct {
	t    *testing.T
	q    *queue.Queue
	url  string
	sims map[string]*comfysim.Server
	nats string
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// start starts a fleet with hosts of these names. The blocks of its pairs last for a minute.
func start(t *testing.T, hosts ...string) *fleet {
	t.Helper()
	server := must(natsserver.Start(natsserver.Config{Port: -1, StoreDir: t.TempDir()}))
	t.Cleanup(func() { _ = server.Close() })
	f := &fleet{t: t, sims: map[string]*comfysim.Server{}, nats: server.URL()}
	f.q = f.connect()
	for _, name := range hosts {
		f.host(name)
	}
	f.eventually("the hosts are online", func() bool {
		online, err := f.q.Hosts(t.Context())
		return err == nil && len(online) == len(hosts)
	})
	f.act(func(q *queue.Queue) (actor, error) {
		return dispatcher.New(q, dispatcher.Config{Name: "one", Policy: route.Policy{Cooldown: time.Minute, Cap: 15 * time.Minute, MaxFailures: 1}})
	})
	f.eventually("the dispatcher answers", func() bool {
		known, err := f.q.AllHosts(t.Context())
		return err == nil && len(known) == len(hosts)
	})
	f.url = f.page(dashboard.Config{})
	return f
}

func (f *fleet) connect() *queue.Queue {
	nc := must(nats.Connect(f.nats))
	q := must(queue.Open(f.t.Context(), nc, queue.Config{}))
	f.t.Cleanup(func() {
		q.Close()
		nc.Close()
	})
	return q
}

type actor interface {
	Run(stop, kill context.Context) error
}

func (f *fleet) act(create func(*queue.Queue) (actor, error)) {
	a := must(create(f.connect()))
	f.beside(func(ctx context.Context) error { return a.Run(ctx, ctx) })
}

// beside runs until the test ends.
func (f *fleet) beside(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(f.t.Context()))
	var over sync.WaitGroup
	over.Go(func() {
		if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			f.t.Error(err)
		}
	})
	f.t.Cleanup(func() {
		cancel()
		over.Wait()
	})
}

// host starts a simulated host with its agent.
func (f *fleet) host(name string) {
	sim := must(comfysim.Start(comfysim.Config{Name: name, Nodes: []string{detailer}, Models: map[string][]string{"checkpoints": {"portrait.safetensors", "poster.safetensors"}}, JobTimeFor: nodeTime}))
	f.sims[name] = sim
	f.t.Cleanup(sim.Close)
	f.act(func(q *queue.Queue) (actor, error) {
		return agent.New(q, agent.Config{Hosts: []agent.HostConfig{{Name: name, URL: sim.URL()}}})
	})
}

// page serves another page of the fleet.
func (f *fleet) page(cfg dashboard.Config) string {
	d := must(dashboard.New(f.connect(), cfg))
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	f.beside(func(ctx context.Context) error { return d.Run(ctx, l) })
	return "http://" + l.Addr().String() + "/"
}

const detailer = "FaceDetailer"

// nodeTime lets a sampler with many steps run for long.
func nodeTime(class string, inputs map[string]any) time.Duration {
	if class == "KSampler" {
		if fmt.Sprint(inputs["steps"]) == "40" {
			return 20 * time.Second
		}
		return 400 * time.Millisecond
	}
	return 20 * time.Millisecond
}

// graph is text to image; a portrait has one more node, of which a host may lack a part.
func graph(name string, seed int) string {
	last, more := "8", ""
	if name == "portrait" {
		last, more = "10", fmt.Sprintf(`"10":{"class_type":%q,"inputs":{"image":["8",0]}},`, detailer)
	}
	return fmt.Sprintf(`{"4":{"class_type":"CheckpointLoaderSimple","inputs":{"ckpt_name":"%s.safetensors"}},
	"5":{"class_type":"EmptyLatentImage","inputs":{"width":512,"height":512,"batch_size":1}},
	"6":{"class_type":"CLIPTextEncode","inputs":{"clip":["4",1],"text":"%[1]s number %[2]d"}},
	"7":{"class_type":"CLIPTextEncode","inputs":{"clip":["4",1],"text":"blurry"}},
	"3":{"class_type":"KSampler","inputs":{"model":["4",0],"positive":["6",0],"negative":["7",0],"latent_image":["5",0],"seed":%[2]d,"steps":20,"cfg":7,"sampler_name":"euler","scheduler":"normal","denoise":1}},
	"8":{"class_type":"VAEDecode","inputs":{"samples":["3",0],"vae":["4",2]}},%s
	"9":{"class_type":"SaveImage","inputs":{"images":[%q,0],"filename_prefix":"%[1]s"}}}`, name, seed, more, last)
}

// submit publishes a job of a workflow; change may change it.
func (f *fleet) submit(tenant job.Tenant, id, name string, seed int, change func(*job.Spec)) {
	f.t.Helper()
	spec := job.Spec{ID: job.ID(id), Workflow: []byte(graph(name, seed))}
	if change != nil {
		change(&spec)
	}
	if _, err := f.q.Submit(f.t.Context(), job.Lane{Tenant: tenant, Priority: job.Usual}, spec); err != nil {
		f.t.Fatal(err)
	}
}

// ended waits for the end of a job.
func (f *fleet) ended(tenant job.Tenant, id string) job.EventKind {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), testTimeout)
	defer cancel()
	last := job.EventKind("")
	for e, err := range f.q.Follow(ctx, tenant, job.ID(id)) {
		if err != nil {
			f.t.Fatalf("job %s: %v", id, err)
		}
		last = e.EventKind
	}
	return last
}

func (f *fleet) eventually(what string, is func() bool) {
	f.t.Helper()
	over, tick := time.NewTimer(testTimeout), time.NewTicker(20*time.Millisecond)
	defer over.Stop()
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-over.C:
			f.t.Fatalf("not within %s: %s", testTimeout, what)
		}
	}
}

// tab is one tab of a browser.
type tab struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // it is how chromedp names a tab
	url string

	mu    sync.Mutex // guards wrong
	wrong []string   // what the browser has complained of
}

// open opens a page of the fleet in a browser of its own.
func (f *fleet) open(url string) *tab {
	f.t.Helper()
	path := browserPath()
	if path == "" {
		f.t.Skip(noBrowser)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	allocator, endAllocator := chromedp.NewExecAllocator(context.WithoutCancel(f.t.Context()), options...)
	f.t.Cleanup(endAllocator)
	ctx, end := chromedp.NewContext(allocator)
	f.t.Cleanup(end)
	b := &tab{t: f.t, ctx: ctx, url: url}
	if err := chromedp.Do(ctx); err != nil { // starts the browser, whose life must not depend on one step
		f.t.Fatalf("start %s: %v", path, err)
	}
	go func() {
		for m := range chromedp.Console(ctx) {
			if m.Type == "error" || m.Type == chromedp.ConsoleException {
				b.mu.Lock()
				b.wrong = append(b.wrong, m.Text)
				b.mu.Unlock()
			}
		}
	}()
	b.do("open "+url, chromedp.EmulateViewport(1280, 900), chromedp.Navigate(url))
	f.t.Cleanup(b.checkConsole)
	return b
}

// checkConsole reports what the browser complained of: a script that failed, or something that the page's policy forbids.
func (b *tab) checkConsole() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, text := range b.wrong {
		b.t.Errorf("the browser complains: %s", text)
	}
}

func (b *tab) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, testTimeout)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("%s: %v; the page says: %s", what, err, b.text())
	}
}

func (b *tab) text() string {
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	text, _ := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
	return strings.Join(strings.Fields(text), " ")
}

// until waits until an expression of JavaScript is true on the page. While the page is left for another one there is nothing to ask.
func (b *tab) until(what, expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, testTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		is, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		if is {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.t.Fatalf("%s: not within %s (%v); the page says: %s", what, testTimeout, err, b.text())
		}
	}
}

// says waits until the page shows all words.
func (b *tab) says(words ...string) {
	b.t.Helper()
	for _, word := range words {
		b.until("the page shows "+word, fmt.Sprintf("document.body.innerText.includes(%q)", word))
	}
}

// to goes to a view.
func (b *tab) to(view string) {
	b.t.Helper()
	b.do("go to "+view, chromedp.Evaluate[chromedp.Void](fmt.Sprintf("void (location.hash = %q)", "#/"+view)))
}

func (b *tab) press(keys string) {
	b.t.Helper()
	b.do("press "+keys, chromedp.KeyEvent(keys))
}

func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, testTimeout)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}
