package queue_test

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// Files that compress well are many times larger than what is stored: a list of them must not hold them all.
func TestAListOfUserFilesHasTheirSizesAndNotTheirData(t *testing.T) {
	t.Parallel()
	q := open(t, connect(t, startNATS(t)), queue.Config{})
	large := make([]byte, 5<<20)
	must(0, q.PutUserFile(t.Context(), "acme", "workflows/large.json", large, true))
	must(0, q.PutUserFile(t.Context(), "acme", "a.json", []byte("{}"), true))
	must(0, q.PutUserFile(t.Context(), "bolt", "b.json", []byte("{}"), true))
	want := []queue.UserFile{{Path: "a.json", Size: 2}, {Path: "workflows/large.json", Size: 5 << 20}}
	if diff := cmp.Diff(want, must(q.UserFiles(t.Context(), "acme")), cmpopts.IgnoreFields(queue.UserFile{}, "Modified")); diff != "" {
		t.Error(diff)
	}
	if f := must(q.UserFile(t.Context(), "acme", "workflows/large.json")); len(f.Data) != 5<<20 || f.Size != 5<<20 {
		t.Errorf("the file has %d bytes, and size %d", len(f.Data), f.Size)
	}
}

// All tenants share the bucket.
func TestATenantLeavesRoomForTheUserFilesOfOthers(t *testing.T) {
	t.Parallel()
	q := open(t, connect(t, startNATS(t)), queue.Config{MaxDisk: 2 << 30, UserBytes: 1 << 30}) // of which the bucket has some 4 MiB
	random := randomBytes(300 << 10)
	var big *jetstream.TooBig
	var err error
	for i := 0; err == nil && i < 100; i++ {
		err = q.PutUserFile(t.Context(), "acme", strconv.Itoa(i), random, true)
	}
	if !errors.As(err, &big) {
		t.Errorf("the error is %v", err)
	}
	must(0, q.PutUserFile(t.Context(), "bolt", "a", random, true))
	must(0, q.PutUserFile(t.Context(), "acme", "0", nil, true))
	if err := q.RemoveUserFile(t.Context(), "acme", "1"); err != nil {
		t.Error(err)
	}
}

// randomBytes cannot be compressed.
func randomBytes(n int) []byte {
	random := make([]byte, n)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	return random
}

func TestATenantsUserFilesHaveAsManyBytesAsTheyMay(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]queue.Config{
		"Configured": {UserBytes: 1 << 20}, "AQuarterOfTheBucket": {MaxDisk: 2 << 30}, // of which the bucket has some 4 MiB
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := open(t, connect(t, startNATS(t)), cfg)
			random, large := randomBytes(300<<10), 0
			for ; large < 10; large++ {
				err := q.PutUserFile(t.Context(), "acme", strconv.Itoa(large), random, true)
				if errors.Is(err, jetstream.ErrNoSpace) {
					break
				}
				must(0, err)
			}
			if large != 3 {
				t.Errorf("%d files of 300 KiB are kept", large)
			}
			if err := q.ChangeUserFile(t.Context(), "acme", "settings", func([]byte) []byte { return random }); !errors.Is(err, jetstream.ErrNoSpace) {
				t.Errorf("a change: %v", err)
			}
			must(0, q.PutUserFile(t.Context(), "acme", "0", random[:100<<10], true)) // it becomes smaller
			must(0, q.PutUserFile(t.Context(), "acme", "small", []byte("{}"), true))
			must(0, q.PutUserFile(t.Context(), "bolt", "0", random, true))
		})
	}
}

func TestATenantHasAsManyUserFilesAsItMay(t *testing.T) {
	t.Parallel()
	q := open(t, connect(t, startNATS(t)), queue.Config{UserFiles: 3})
	for _, path := range []string{"a", "b", "c"} {
		must(0, q.PutUserFile(t.Context(), "acme", path, []byte("{}"), true))
	}
	if err := q.PutUserFile(t.Context(), "acme", "d", []byte("{}"), true); !errors.Is(err, jetstream.ErrNoSpace) {
		t.Errorf("a fourth file: %v", err)
	}
	if err := q.ChangeUserFile(t.Context(), "acme", "e", func([]byte) []byte { return []byte("{}") }); !errors.Is(err, jetstream.ErrNoSpace) {
		t.Errorf("a fourth file by a change: %v", err)
	}
	must(0, q.PutUserFile(t.Context(), "acme", "a", []byte(`{"x":1}`), true)) // it is there
	must(0, q.PutUserFile(t.Context(), "bolt", "d", []byte("{}"), true))
	must(0, q.RemoveUserFile(t.Context(), "acme", "b"))
	must(0, q.PutUserFile(t.Context(), "acme", "d", []byte("{}"), true))
}
