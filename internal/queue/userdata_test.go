package queue_test

import (
	"bytes"
	"testing"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// A file of 16 MiB may take 16 KiB in NATS, and a tenant may have very many.
func TestAListOfFilesHasNoneOfTheirData(t *testing.T) {
	t.Parallel()
	ctx, q := t.Context(), open(t, connect(t, startNATS(t)), queue.Config{})
	if err := q.PutUserFile(ctx, "acme", "workflows/zeros", make([]byte, 1<<20), true); err != nil {
		t.Fatal(err)
	}
	files, err := q.UserFiles(ctx, "acme")
	if err != nil || len(files) != 1 || files[0].Path != "workflows/zeros" || files[0].Size != 1<<20 || files[0].Data != nil {
		t.Errorf("the list is %.200v, %v", files, err)
	}
	file, err := q.UserFile(ctx, "acme", "workflows/zeros")
	if err != nil || file.Size != 1<<20 || !bytes.Equal(file.Data, make([]byte, 1<<20)) {
		t.Errorf("the file has %d bytes and %d, %v", file.Size, len(file.Data), err)
	}
}
