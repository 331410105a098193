package natsserver

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
)

// lines is nats-server's logger. It hands the server's lines to slog and keeps the first
// fatal one: a server inside a process does not exit, so that line is the only reason why it did not start.
type lines struct {
	log *slog.Logger

	mu    sync.Mutex
	first string // the first fatal line; written by the server's goroutines
}

func newLines(log *slog.Logger) *lines {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &lines{log: log}
}

func (l *lines) fatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

func (l *lines) write(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "nats-server: "+fmt.Sprintf(format, v...))
	}
}

// Noticef, Warnf, Errorf, Fatalf, Debugf and Tracef are nats-server's Logger interface.

func (l *lines) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }
func (l *lines) Warnf(format string, v ...any)   { l.write(slog.LevelWarn, format, v) }
func (l *lines) Errorf(format string, v ...any)  { l.write(slog.LevelError, format, v) }
func (l *lines) Debugf(format string, v ...any)  { l.write(slog.LevelDebug, format, v) }
func (l *lines) Tracef(format string, v ...any)  { l.write(slog.LevelDebug, format, v) }

func (l *lines) Fatalf(format string, v ...any) {
	l.mu.Lock()
	if l.first == "" {
		l.first = fmt.Sprintf(format, v...)
	}
	l.mu.Unlock()
	l.write(slog.LevelError, format, v)
}
