package comfy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// Foreign is the exception type of a failure that rests on an answer that ComfyUI did not give: a proxy, a login
// page or a firewall answered in its place. Host.ProbeSubmit says whether it would answer any submit so.
const Foreign = "foreign_answer"

// ProbeSubmit posts a prompt that ComfyUI itself must refuse. nil means that ComfyUI answers submits; the error says
// in words for the operator what stands before it, or that nothing answers.
func (h *Host) ProbeSubmit(ctx context.Context) error {
	got, err := h.post(ctx, "/prompt", `{"prompt":{}}`)
	if err != nil {
		return err
	}
	var r refusal
	if got.status == http.StatusBadRequest && decode(got.body, &r) == nil && r.fromComfyUI() {
		return nil
	}
	return fmt.Errorf("%s does not let submits reach ComfyUI: %s", h, foreign(got))
}

// foreign says what an answer that is not ComfyUI's is, and what to do about it.
func foreign(got answer) string {
	said := fmt.Sprintf("HTTP %d in answer to the POST", got.status)
	switch {
	case got.status == http.StatusUnauthorized || got.status == http.StatusProxyAuthRequired:
		return said + "; check user and password of the host in COMFY_HOSTS"
	case got.status == http.StatusForbidden:
		return said + "; a proxy or firewall before ComfyUI forbids it; let POST requests with any body pass"
	case got.status == http.StatusNotFound || got.status == http.StatusMethodNotAllowed:
		return said + "; no ComfyUI is at this address; check host, port and path prefix in COMFY_HOSTS"
	case got.status >= 300 && got.status < 400:
		return said + ", which points elsewhere; it is a login page or another address; give ComfyUI's own address in COMFY_HOSTS"
	case got.status == http.StatusRequestEntityTooLarge:
		return said + "; raise the limit of body sizes of the proxy before ComfyUI"
	case got.status >= 500:
		return said + "; a proxy answers for a ComfyUI that does not"
	case isHTML(got):
		return said + " with a web page; it is a login page or a firewall; let POST requests pass"
	}
	return said + " that is not ComfyUI's; check what stands before ComfyUI"
}

// foreignFailure is what follows from an answer that ComfyUI did not give. It may be the doing of what is in this one
// job, or of the host: Host.ProbeSubmit tells.
func foreignFailure(what string, got answer) *failure.Failure {
	return &failure.Failure{Kind: failure.Refused, Exception: Foreign, Message: what + " did not get to ComfyUI: " + foreign(got)}
}

// page says that an answer is for people.
func isHTML(got answer) bool {
	return strings.HasPrefix(strings.ToLower(got.header.Get("Content-Type")), "text/html") ||
		strings.HasPrefix(strings.TrimSpace(string(got.body[:min(len(got.body), 64)])), "<")
}

// roomSize is what ProbeRoom writes: more than a file system may find in what it has set aside for small files.
const roomSize = 1 << 20

// ProbeRoom writes a file of ours into the output folder, and empties it again. It is ErrNoRoom when ComfyUI cannot.
// The file is emptied first: what it held would be room for itself.
func (h *Host) ProbeRoom(ctx context.Context) error {
	s := fileRef{"output", ownFolder, "room.bin"}
	content := make([]byte, roomSize)
	noise := rand.NewChaCha8([32]byte{1}) // a file system that packs data packs this to nothing less
	if _, err := noise.Read(content); err != nil {
		return fmt.Errorf("make a file to write: %w", err)
	}
	for _, written := range [][]byte{nil, content} {
		if err := h.put(ctx, s, written, true); err != nil {
			_ = h.put(ctx, s, nil, true)
			return fmt.Errorf("write to the output folder of %s: %w", h, err)
		}
	}
	if err := h.put(ctx, s, nil, true); err != nil && !errors.Is(err, ErrNoRoom) {
		return fmt.Errorf("empty a file in the output folder of %s: %w", h, err)
	}
	return nil
}
