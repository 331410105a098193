package jetstream_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/jetstream"
)

// The example of the specification of Standard Webhooks and of its libraries.
const (
	specSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	specBody      = `{"test": 2432232314}`
	specSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func specDelivery() http.Header {
	h := http.Header{}
	h.Set("Webhook-Id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
	h.Set("Webhook-Timestamp", "1614265330")
	h.Set("Webhook-Signature", specSignature)
	return h
}

func TestADeliveryIsSignedAsStandardWebhooksSays(t *testing.T) {
	t.Parallel()
	secret, err := jetstream.WebhookSecret(specSecret)
	if err != nil {
		t.Fatal(err)
	}
	if got := jetstream.SignWebhook(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(specBody)); got != specSignature {
		t.Errorf("the signature is %s", got)
	}
}

// signedWithoutID leaves a receiver nothing by which it recognizes a delivery that it has got.
func signedWithoutID(h http.Header) {
	secret, _ := jetstream.WebhookSecret(specSecret)
	h.Del("webhook-id")
	h.Set("webhook-signature", jetstream.SignWebhook(secret, "", time.Unix(1614265330, 0), []byte(specBody)))
}

func TestADeliveryIsVerified(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(http.Header)
		secret string
		body   string
		late   time.Duration
		want   string // in the error; empty: none
	}{
		"AsSent":             {},
		"FiveMinutesLate":    {late: 5 * time.Minute},
		"TooLate":            {late: 5*time.Minute + time.Second, want: "is off by 5m1s"},
		"FromTheFuture":      {late: -6 * time.Minute, want: "is off by 6m0s"},
		"AnotherBody":        {body: `{"test": 2432232315}`, want: "no signature"},
		"AnotherID":          {change: func(h http.Header) { h.Set("webhook-id", "msg_x") }, want: "no signature"},
		"AnotherTime":        {change: func(h http.Header) { h.Set("webhook-timestamp", "1614265331") }, want: "no signature"},
		"ASecondSignature":   {change: func(h http.Header) { h.Set("webhook-signature", "v1,AAAA "+specSignature) }},
		"AnotherVersion":     {change: func(h http.Header) { h.Set("webhook-signature", "v2"+specSignature[2:]) }, want: "no signature"},
		"WithoutSignature":   {change: func(h http.Header) { h.Del("webhook-signature") }, want: "lacks"},
		"NoTime":             {change: func(h http.Header) { h.Set("webhook-timestamp", "today") }, want: "no time in seconds"},
		"NoSecret":           {secret: "whsec_?", want: "is not whsec_ and base64"},
		"NoSecretBehind":     {secret: specSecret + "?", want: "is not whsec_ and base64"},
		"WithoutAnID":        {change: signedWithoutID, want: "lacks"},
		"AnEmptySecret":      {secret: "whsec_", want: "is not whsec_ and base64"},
		"ASecretOfSomeone":   {secret: "whsec_AAAA", want: "no signature"},
		"ASecretWithoutName": {secret: strings.TrimPrefix(specSecret, "whsec_")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			header, secret, body := specDelivery(), specSecret, specBody
			if c.change != nil {
				c.change(header)
			}
			if c.secret != "" {
				secret = c.secret
			}
			if c.body != "" {
				body = c.body
			}
			err := jetstream.VerifyWebhook(secret, header, []byte(body), time.Unix(1614265330, 0).Add(c.late))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("the error is %v, want %q", err, c.want)
			}
		})
	}
}
