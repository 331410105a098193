package agent

import (
	"context"
	"io"
	"net/url"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// ComfyUI is what the agent uses of one host. *comfy.Host is the real one; `dispatcher bench` brings another that
// finishes every prompt at once. All methods may be called from many goroutines.
type ComfyUI interface {
	Prompts
	Health
	Files
	Routes
}

// Prompts runs workflows. Run's error is a *failure.Failure or the cause of ctx's end, which leaves the prompt on
// the host; Cancel returns nil only when the prompt is neither pending nor running.
type Prompts interface {
	Run(ctx context.Context, p comfy.Prompt, w comfy.Watch) (*comfy.Result, error)
	Cancel(ctx context.Context, promptID string) error
	Find(ctx context.Context, promptID string) (comfy.PromptState, error)
	// Free gives memory back after a prompt ran out of it.
	Free(ctx context.Context) error
	// SeedLimit is the largest seed that an input takes, when that is known.
	SeedLimit(class, input string) (most uint64, known bool)
	// Record is the history's entry of a prompt that has ended; nil when there is none.
	Record(ctx context.Context, promptID string) ([]byte, error)
}

// Routes answers GETs as ComfyUI does.
type Routes interface {
	Page(ctx context.Context, route string, query url.Values) (*comfy.Page, error)
}

// Health tells whether ComfyUI answers, and what it has.
type Health interface {
	// Listen blocks until ctx ends; Changed has a value after State changed.
	Listen(ctx context.Context) error
	Changed() <-chan struct{}
	State() comfy.State
	Probe(ctx context.Context) (comfy.Probe, error)
	Survey(ctx context.Context) (comfy.Probe, error)
	// Sick reads ComfyUI's log; cause is empty when it is healthy.
	Sick(ctx context.Context) (reason string, cause failure.Cause, err error)
	// Process is a text that stays the same until ComfyUI is started again, and is another one from then on.
	Process(ctx context.Context) (string, error)
	// ProbeSubmit is nil when ComfyUI itself answers submits, and otherwise says what to do.
	ProbeSubmit(ctx context.Context) error
	// ProbeRoom writes a small file; its error is comfy.ErrNoRoom when the disk is full.
	ProbeRoom(ctx context.Context) error
	// Capability copies the answer of ComfyUI from which it is read to raw, unless that is nil.
	Capability(ctx context.Context, raw io.Writer) (workflow.Capability, error)
	Spelling(class, input, file string) string
	// Has says whether the class is in what was read last.
	Has(class string) bool
}

// Files carries files to and from the host.
type Files interface {
	Open(ctx context.Context, o comfy.Output) (body io.ReadCloser, contentType string, size int64, err error)
	Upload(ctx context.Context, name, subfolder string, r io.Reader) (nameForWorkflow string, err error)
	// PutCached puts a picture into the memory of the node pack comfyui-tooling-nodes.
	PutCached(ctx context.Context, id string, r io.Reader) error
	// Clear removes the files of one prompt from the host, and only those.
	Clear(ctx context.Context, promptID string) error
	// Discard forgets the pictures of a prompt that came over the websocket.
	Discard(promptID string)
}
