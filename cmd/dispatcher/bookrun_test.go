//go:build unix && !race

package main_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/test/docs"
)

// book runs the commands of pages: those of the dispatcher and the agents in this process, the rest in bash, where the
// command dispatcher is this test's binary. Addresses of the pages are replaced by free ones, and back in outputs.
type book struct {
	t         *testing.T
	dir       string            // where the commands run
	bin       string            // a folder with the command dispatcher
	grammar   *kong.Node        // of the command
	addresses map[string]string // of the pages, and those in use
	jobs      []*background     // what was begun, in order; nil when it was stopped
	first     int               // of the jobs of the page that runs; kill counts from it
}

// background is a command that goes on while others run.
type background struct {
	stop  func()
	done  sync.WaitGroup
	agent bool
}

const natsAddress = "127.0.0.1:4222"

func openBook(t *testing.T) *book {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := &book{t: t, dir: t.TempDir(), bin: t.TempDir(), grammar: commandLine(t).Model.Node, addresses: map[string]string{}}
	if err := os.Symlink(self, filepath.Join(b.bin, "dispatcher")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, agents := range []bool{true, false} { // and what was begun last first: before the NATS that they use
			for i, job := range slices.Backward(b.jobs) {
				if job != nil && job.agent == agents {
					b.end(i)
				}
			}
		}
	})
	return b
}

// until asks again and again, and gives up without an error: the caller compares what it got.
func (b *book) until(done func() bool) {
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			return
		}
	}
}

// bash runs a script with the command dispatcher in its path.
func (b *book) bash(script string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), testTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, "bash", "-c", b.inUse(script))
	command.Dir = b.dir
	command.Env = append(os.Environ(), "PATH="+b.bin+":"+os.Getenv("PATH"), asDispatcher+"=1", "NATS_URL=nats://"+b.inUse(natsAddress))
	out, _ := command.CombinedOutput() // a command may fail, and its output says so
	return b.asOnPage(string(out))
}

// dispatcher runs the command in this process.
func (b *book) dispatcher(args []string) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer cancel()
	args = b.arguments(args)
	var out bytes.Buffer
	main.Run(ctx, args, strings.NewReader(""), &out, &out)
	return b.asOnPage(out.String())
}

// arguments are those of a command in this process: with addresses in use, paths in the book's folder, and the fleet's NATS.
func (b *book) arguments(args []string) []string {
	var found []string
	for i, arg := range args {
		before, name := "", arg
		if at := strings.LastIndexByte(arg, '='); at >= 0 { // as in --input 1.image=cat.png
			before, name = arg[:at+1], arg[at+1:]
		}
		path := filepath.Join(b.dir, name)
		if _, err := os.Stat(path); i > 0 && (err == nil || args[i-1] == "--out" || args[i-1] == "--store-dir") {
			arg = before + path
		}
		found = append(found, b.inUse(arg))
	}
	if has(b.command(args), "nats-url") && args[0] != "run" {
		found = append(found, "--nats-url=nats://"+b.inUse(natsAddress))
	}
	return found
}

// command gives the flags of the command that a line names.
func (b *book) command(args []string) []*kong.Flag {
	node := b.grammar
	flags := slices.Clone(node.Flags)
	for _, word := range args {
		for _, child := range node.Children {
			if child.Name == word {
				node, flags = child, append(flags, child.Flags...)
				break
			}
		}
	}
	if node.DefaultCmd != nil {
		flags = append(flags, node.DefaultCmd.Flags...)
	}
	return flags
}

func has(flags []*kong.Flag, name string) bool {
	for _, flag := range flags {
		if flag.Name == name {
			return true
		}
	}
	return false
}

func (b *book) inUse(text string) string {
	for page, used := range b.addresses {
		text = strings.ReplaceAll(text, page, used)
	}
	return text
}

func (b *book) asOnPage(text string) string {
	for page, used := range b.addresses {
		text = strings.ReplaceAll(text, used, page)
	}
	text = strings.ReplaceAll(text, "NATS_URL=nats://"+natsAddress+" ", "") // where NATS is by default
	return strings.ReplaceAll(text, b.dir+"/", "")
}

// output is what a command in the background prints.
type output struct {
	path string // of the file that gets it; empty: the terminal

	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	if o.path == "" {
		return len(p), nil
	}
	return len(p), os.WriteFile(o.path, o.text.Bytes(), 0o600)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// begin runs the command in the background until it is stopped, and gives what it prints at its start.
func (b *book) begin(args []string) string {
	b.t.Helper()
	args, file := withoutRedirection(args)
	for i, arg := range args {
		if strings.HasPrefix(arg, "127.0.0.1:") {
			args[i] = b.free(arg)
		}
	}
	args = b.arguments(args)
	last := "\n"
	if args[0] == "run" {
		last = "stop      "
		args = append(args, "--listen="+b.free(natsAddress), "--dashboard="+b.free("127.0.0.1:8080"), "--gateway="+b.free("127.0.0.1:8188"))
	}
	if has(b.command(args), "log-level") {
		args = append(args, "--log-level=error")
	}
	out := output{path: file}
	if file != "" {
		out.path = filepath.Join(b.dir, file)
	}
	ended := b.goOn(func(ctx context.Context) {
		if code := main.Run(ctx, args, nil, &out, &out); code != 0 {
			b.t.Errorf("dispatcher %q ended with %d: %s", args, code, out.String())
		}
	})
	b.until(func() bool { return strings.Contains(out.String(), last) || ended() })
	if file != "" {
		return ""
	}
	return b.asOnPage(out.String())
}

// withoutRedirection takes > file or 2> file off the end, and gives the file.
func withoutRedirection(args []string) (rest []string, file string) {
	for i, arg := range args {
		if arg == ">" || arg == "2>" {
			return slices.Clone(args[:i]), args[i+1]
		}
	}
	return slices.Clone(args), ""
}

// goOn runs a function in the background until it is stopped or ends by itself.
func (b *book) goOn(run func(context.Context)) (ended func() bool) {
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	job := &background{stop: cancel}
	job.done.Go(func() {
		defer close(over)
		run(ctx)
	})
	b.jobs = append(b.jobs, job)
	return func() bool {
		select {
		case <-over:
			return true
		default:
			return false
		}
	}
}

// kill stops commands in the background, as %1 and so on, and waits for their end.
func (b *book) kill(jobs []string) string {
	b.t.Helper()
	for _, job := range jobs {
		n, err := strconv.Atoi(strings.TrimPrefix(job, "%"))
		if err != nil || n < 1 || b.first+n > len(b.jobs) {
			b.t.Fatalf("kill %s: the page has %d jobs", job, len(b.jobs)-b.first)
		}
		b.end(b.first + n - 1)
	}
	return ""
}

func (b *book) end(i int) {
	if job := b.jobs[i]; job != nil {
		job.stop()
		job.done.Wait()
		b.jobs[i] = nil
	}
}

// agent serves the hosts of COMFY_HOSTS until it is stopped, and waits until the fleet has them.
func (b *book) agent(command string, args []string) string {
	b.t.Helper()
	_, list, _ := strings.Cut(command, "COMFY_HOSTS=")
	given, err := daemon.ComfyHosts(b.inUse(strings.Fields(list)[0]))
	if err != nil {
		b.t.Fatal(err)
	}
	cfg := agent.Config{}
	for _, h := range given {
		cfg.Hosts = append(cfg.Hosts, agent.HostConfig{Name: h.Name, URL: h.URL})
	}
	args, _ = withoutRedirection(args)
	for i := 0; i+1 < len(args); i += 2 {
		switch args[i] {
		case "--label":
			cfg.Labels = append(cfg.Labels, args[i+1])
		default:
			b.t.Fatalf("agent %s: the book cannot do this", args[i])
		}
	}
	began := make(chan *queue.Queue, 1)
	b.goOn(func(ctx context.Context) {
		defer close(began)
		b.serve(ctx, cfg, began)
	})
	b.jobs[len(b.jobs)-1].agent = true
	q := <-began
	if q == nil {
		return "agent: it did not start\n"
	}
	b.until(func() bool { return b.serving(q, cfg) })
	return ""
}

func (b *book) serve(ctx context.Context, cfg agent.Config, began chan<- *queue.Queue) {
	nc, err := daemon.Connect(ctx, daemon.NATS{URL: "nats://" + b.inUse(natsAddress), Name: "agent"})
	if err != nil {
		b.t.Error(err)
		return
	}
	defer nc.Close()
	q, err := queue.Open(ctx, nc, queue.Config{})
	if err != nil {
		b.t.Error(err)
		return
	}
	defer q.Close()
	a, err := agent.New(q, cfg)
	if err != nil {
		b.t.Error(err)
		return
	}
	began <- q
	if err := a.Run(ctx, context.Background()); err != nil {
		b.t.Errorf("agent: %v", err)
	}
}

// serving says whether all hosts are online and it is known what they can run.
func (b *book) serving(q *queue.Queue, cfg agent.Config) bool {
	var answer queue.HostsAnswer
	if q.Call(b.t.Context(), "hosts", queue.HostsRequest{}, &answer) != nil {
		return false
	}
	capable := 0
	for i := range answer.Hosts {
		for _, h := range cfg.Hosts {
			if h.Name == answer.Hosts[i].Host && answer.Hosts[i].State == queue.Online && answer.Hosts[i].Capability > 0 {
				capable++
			}
		}
	}
	return capable == len(cfg.Hosts)
}

// free gives an address of a page a free port, and remembers it: what is started again gets the same one.
func (b *book) free(page string) string {
	b.t.Helper()
	if used, known := b.addresses[page]; known {
		return used
	}
	address, err := docs.FreeAddress()
	if err != nil {
		b.t.Fatal(err)
	}
	b.addresses[page] = address
	return address
}
