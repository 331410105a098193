package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// lineTime is RFC 3339 with milliseconds, so that lines of several machines sort and compare.
const lineTime = "2006-01-02T15:04:05.000Z07:00"

// Logger writes one line per record to w, from the given level up: as JSON for a
// machine, else for a person as time, level, message, and key=value:
//
//	2026-12-01T03:00:00.123Z WARN  host is gone  host=gpu-1 jobs=2
func Logger(w io.Writer, level slog.Level, json bool) *slog.Logger {
	if json {
		return slog.New(slog.NewJSONHandler(jsonWriter{w}, &slog.HandlerOptions{Level: level}))
	}
	out := &lineWriter{w: w}
	return slog.New(&lineHandler{out: out, attrs: slog.NewTextHandler(&out.buf, &slog.HandlerOptions{
		Level: level, ReplaceAttr: dropBuiltin,
	})})
}

// Warn logs what an operator should know.
func Warn(log *slog.Logger) func(error) {
	return func(err error) { log.Warn(err.Error()) }
}

// lineWriter is shared by a handler and all that With made of it.
type lineWriter struct {
	mu  sync.Mutex
	buf bytes.Buffer // the attributes of the line being written
	w   io.Writer
}

// lineHandler writes time, level and message itself and lets slog's text handler write the attributes.
type lineHandler struct {
	out   *lineWriter
	attrs slog.Handler // writes to out.buf, under out.mu
}

// Enabled, Handle, WithAttrs and WithGroup are slog's Handler interface.

func (h *lineHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.attrs.Enabled(ctx, level)
}

func (h *lineHandler) Handle(ctx context.Context, r slog.Record) error {
	bare := r.Clone()
	bare.Message = ""
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.buf.Reset()
	if err := h.attrs.Handle(ctx, bare); err != nil {
		return err
	}
	line := fmt.Sprintf("%s %-5s %s", r.Time.Format(lineTime), r.Level, oneLine(r.Message))
	if attrs := strings.TrimSpace(h.out.buf.String()); attrs != "" {
		line += "  " + Printable(attrs)
	}
	_, err := io.WriteString(h.out.w, line+"\n")
	return err
}

func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &lineHandler{out: h.out, attrs: h.attrs.WithAttrs(attrs)}
}

func (h *lineHandler) WithGroup(name string) slog.Handler {
	return &lineHandler{out: h.out, attrs: h.attrs.WithGroup(name)}
}

// dropBuiltin removes slog's own time, level and message, and keeps attributes that
// merely have the same name, such as the level of a block.
func dropBuiltin(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	_, isLevel := a.Value.Any().(slog.Level)
	switch {
	case a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime,
		a.Key == slog.LevelKey && isLevel,
		a.Key == slog.MessageKey && a.Value.String() == "":
		return slog.Attr{}
	}
	return a
}

// oneLine keeps a text from another machine from forging a second log line, or from being read in another order.
func oneLine(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, steers) {
		return strconv.Quote(s)
	}
	return s
}
