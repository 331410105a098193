package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// specs reads every file before anything is sent: a wrong one stops them all.
func (s *submitCmd) specs(c *daemon.Console, tenant job.Tenant) ([]jetstream.Spec, error) {
	var specs []jetstream.Spec
	for _, name := range s.Files {
		body, err := readFile(c, name)
		if err != nil {
			return nil, err
		}
		spec, err := s.spec(body, tenant)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if s.ID != "" {
			spec.ID = job.ID(s.ID)
		}
		for range s.Count {
			specs = append(specs, spec)
		}
	}
	if err := number(specs, s.Count > 1 || s.ID != "" && len(specs) > 1); err != nil {
		return nil, err
	}
	return specs, nil
}

// number makes the ids of several jobs different.
func number(specs []jetstream.Spec, several bool) error {
	seen := map[job.ID]int{}
	for i := range specs {
		id := specs[i].ID
		if id == "" {
			continue
		}
		if several {
			seen[id]++
			specs[i].ID = job.ID(fmt.Sprintf("%s-%d", id, seen[id]))
		}
		if id = specs[i].ID; !id.Valid() || id.Ours() {
			return fmt.Errorf("%q cannot be the id of a job; give 1 to 120 of A-Z a-z 0-9 _ -, not beginning with j-", id)
		}
	}
	return nil
}

const maxFile = 64 << 20 // beyond any message that NATS takes

func readFile(c *daemon.Console, name string) ([]byte, error) {
	from := c.In
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("%w; give a workflow that was exported with Workflow → Export (API)", err)
		}
		defer file.Close()
		from = file
	}
	body, err := io.ReadAll(io.LimitReader(from, maxFile+1))
	if errors.Is(err, syscall.EISDIR) {
		return nil, fmt.Errorf("%s is a folder; give the files in it", name)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(body) > maxFile {
		return nil, fmt.Errorf("%s is larger than %s; is it a workflow? Pictures are given with --input", name, daemon.Size(maxFile).String())
	}
	return body, nil
}
