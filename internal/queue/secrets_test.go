package queue_test

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

func TestTheSecretsOfAFleetAreMadeOnce(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	queues := make([]*queue.Queue, 4)
	for i := range queues {
		q, err := queue.Open(t.Context(), connect(t, url), queue.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(q.Close)
		queues[i] = q
	}
	found := make([][]byte, len(queues))
	var asking sync.WaitGroup
	for i, q := range queues {
		asking.Go(func() {
			secret, err := q.Secret(t.Context(), queue.FilesSecret)
			if err != nil {
				t.Error(err)
			}
			found[i] = secret
		})
	}
	asking.Wait()
	for _, secret := range found {
		if len(secret) != 32 || !bytes.Equal(secret, found[0]) {
			t.Errorf("%d bytes, the first has %d", len(secret), len(found[0]))
		}
	}
	prompt, err := queues[0].Secret(t.Context(), queue.PromptSecret)
	if err != nil || len(prompt) != 32 || bytes.Equal(prompt, found[0]) {
		t.Errorf("the other secret has %d bytes, %v", len(prompt), err)
	}
}

// Open makes the secret of prompt ids, so that agents which may make nothing find it.
func TestWhoMayMakeNothingReadsTheSecretThatAnotherHasMade(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	openWith(t, url, queue.Config{})
	reader := openWith(t, url, queue.Config{ReadOnly: true})
	if _, err := reader.Secret(t.Context(), queue.FilesSecret); !errors.Is(err, queue.ErrNoSecret) {
		t.Errorf("a secret that nobody has made: %v", err)
	}
	if secret, err := reader.Secret(t.Context(), queue.PromptSecret); err != nil || len(secret) != 32 {
		t.Errorf("%d bytes, %v", len(secret), err)
	}
}

func TestWhatIsNoSecretIsReplaced(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	nc := connect(t, url)
	q := open(t, nc, queue.Config{})
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), names.SecretsBucket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), queue.FilesSecret, []byte("short")); err != nil {
		t.Fatal(err)
	}
	if secret, err := q.Secret(t.Context(), queue.FilesSecret); err != nil || len(secret) != 32 {
		t.Errorf("%d bytes, %v", len(secret), err)
	}
}
