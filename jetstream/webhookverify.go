package jetstream

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	webhookTolerance = 5 * time.Minute
	webhookVersion   = "v1,"
	webhookPrefix    = "whsec_"
)

// SignWebhook gives the signature of a delivery, as the header webhook-signature has it: v1 and the HMAC-SHA256 of the id, the time and
// the body. The secret is in bytes, as WebhookSecret gives it.
func SignWebhook(secret []byte, id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	_, _ = fmt.Fprintf(mac, "%s.%d.", id, at.Unix()) // a hash fails no write
	_, _ = mac.Write(body)
	return webhookVersion + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// WebhookSecret reads a secret as it is shown to people: whsec_ and base64.
func WebhookSecret(text string) ([]byte, error) {
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, webhookPrefix))
	if err != nil || len(secret) == 0 {
		return nil, errors.New("the secret of a webhook is not whsec_ and base64")
	}
	return secret, nil
}

// VerifyWebhook says why a delivery is none of the fleet that has given this secret, or is older or newer than five minutes by this
// clock; nil when it is genuine. The body is verified byte for byte, so give it as it was received. Then look whether a delivery
// with the same webhook-id was received before: every event may be delivered several times.
func VerifyWebhook(secret string, header http.Header, body []byte, now time.Time) error {
	key, err := WebhookSecret(secret)
	if err != nil {
		return err
	}
	id, stamp, signatures := header.Get("webhook-id"), header.Get("webhook-timestamp"), header.Get("webhook-signature")
	if id == "" || stamp == "" || signatures == "" {
		return errors.New("the delivery lacks webhook-id, webhook-timestamp or webhook-signature")
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return fmt.Errorf("webhook-timestamp %.40q is no time in seconds", stamp)
	}
	at := time.Unix(seconds, 0)
	if off := now.Sub(at).Abs(); off > webhookTolerance {
		return fmt.Errorf("webhook-timestamp is off by %s, and may be off by %s", off.Round(time.Second), webhookTolerance)
	}
	want := SignWebhook(key, id, at, body)
	for signature := range strings.FieldsSeq(signatures) {
		if hmac.Equal([]byte(signature), []byte(want)) {
			return nil
		}
	}
	return errors.New("no signature of the delivery was made with this secret")
}
