package jetstream_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"time"

	"github.com/comfyherd/comfyherd/jetstream"
)

// The receiver of a webhook believes only what the fleet has signed. A receiver that keeps something also remembers each webhook-id,
// since every event may be delivered several times.
func ExampleVerifyWebhook() {
	const secret = "whsec_c29tZSBzZWNyZXQgb2YgdGhlIGZsZWV0" // from the answer of Client.SetWebhook
	receiver := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err == nil {
			err = jetstream.VerifyWebhook(secret, r.Header, body, time.Now())
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		fmt.Println("received", string(body))
	})

	// What the fleet sends, and what somebody else sends:
	key, _ := jetstream.WebhookSecret(secret)
	for _, key := range [][]byte{key, []byte("another")} {
		body, now := []byte(`{"type":"job.completed"}`), time.Now()
		r := httptest.NewRequest(http.MethodPost, "/hook", bytes.NewReader(body))
		r.Header.Set("webhook-id", "msg-1")
		r.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
		r.Header.Set("webhook-signature", jetstream.SignWebhook(key, "msg-1", now, body))
		w := httptest.NewRecorder()
		receiver.ServeHTTP(w, r)
		fmt.Println(w.Code)
	}

	// Output:
	// received {"type":"job.completed"}
	// 200
	// 401
}
