package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

// The values of flags that name something of the fleet. An empty text is no value.

// hashPrefix is the hash of a workflow, or its first digits.
type hashPrefix string

const leastHashDigits = 8 // fewer do not identify a workflow

// UnmarshalText reads 8 to 64 hex digits.
func (h *hashPrefix) UnmarshalText(text []byte) error {
	switch {
	case len(text) > 64 || strings.Trim(string(text), "0123456789abcdef") != "":
		return fmt.Errorf("%q is not a hash; give 64 lower-case hex digits, or the first 8 or more of them", daemon.Short(string(text), 80))
	case len(text) > 0 && len(text) < leastHashDigits:
		return fmt.Errorf("%q is too short to identify a workflow; give at least %d digits", text, leastHashDigits)
	}
	*h = hashPrefix(text)
	return nil
}

// kindName is a failure.Kind.
type kindName failure.Kind

// UnmarshalText reads the name of a kind.
func (k *kindName) UnmarshalText(text []byte) error {
	kind := failure.Kind(text)
	if kind != "" && !kind.Valid() {
		return fmt.Errorf("%q is not a kind of failure; give one of %s", text, words(failure.Kinds()))
	}
	*k = kindName(kind)
	return nil
}

// hostName is the name of a host, as COMFY_HOSTS and `dispatcher hosts` have it.
type hostName string

// UnmarshalText reads the name of a host.
func (h *hostName) UnmarshalText(text []byte) error {
	if len(text) > 0 && !job.ValidHost(string(text)) {
		return fmt.Errorf("%q is not a host name; give 1 to 64 of A-Z a-z 0-9 _ -, as `dispatcher hosts` lists them", text)
	}
	*h = hostName(text)
	return nil
}

// moment is a point in time; without a zone it is one of the local clock.
type moment struct{ time.Time }

// UnmarshalText reads 2026-12-01T08:00:00Z, 2026-12-01T08:00 and the like.
func (m *moment) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	var err error
	if m.Time, err = time.Parse(time.RFC3339, string(text)); err == nil {
		return nil
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04"} {
		if m.Time, err = time.ParseInLocation(layout, string(text), time.Local); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%q is not a time; write it like 2026-12-01T08:00:00Z or 2026-12-01T08:00", text)
}

// since is a point in time, given as such or as a duration before now.
type since struct {
	at  moment
	ago time.Duration
}

// UnmarshalText reads a duration or what moment reads.
func (s *since) UnmarshalText(text []byte) error {
	ago, err := time.ParseDuration(string(text))
	if err == nil {
		*s = since{ago: ago}
		return nil
	}
	if err := s.at.UnmarshalText(text); err != nil {
		return fmt.Errorf("%w, or like 24h", err)
	}
	return nil
}

// before is the point in time; zero when none was given.
func (s since) before(now time.Time) time.Time {
	if s.ago != 0 {
		return now.Add(-s.ago)
	}
	return s.at.Time
}

// String is what the calls of the contract take; empty when nothing was given.
func (s since) String() string {
	switch {
	case s.ago != 0:
		return s.ago.String()
	case s.at.IsZero():
		return ""
	}
	return s.at.Format(time.RFC3339Nano)
}

func words[T ~string](all []T) string {
	texts := make([]string, 0, len(all))
	for _, one := range all {
		texts = append(texts, string(one))
	}
	return strings.Join(texts, " ")
}
