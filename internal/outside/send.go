package outside

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/comfyherd/comfyherd/jetstream"
)

const (
	answerRead    = 16 << 10 // bytes of an answer that are read, so that the connection can be used again; they are not kept
	answerHeaders = 16 << 10
	longestAsked  = time.Hour // the longest Retry-After of a receiver that is obeyed
	errorMost     = 200       // characters of an error that are recorded
)

// sender makes requests to receivers: with TLS to any allowed address, and without to those whose range an operator has named.
// It follows no redirect, uses no proxy and keeps nothing of an answer but its status.
type sender struct {
	secure, plain *http.Client
	agent         string
}

func newSender(allow Addresses, cfg *WebhookConfig) *sender {
	client := func(control func(string, string, syscall.RawConn) error) *http.Client {
		dialer := net.Dialer{Timeout: 10 * time.Second, Control: control}
		return &http.Client{
			Timeout:       cfg.Timeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				DialContext: dialer.DialContext, TLSClientConfig: cfg.TLS, TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true,
				MaxIdleConns: 256, MaxIdleConnsPerHost: triesOfWebhook, IdleConnTimeout: 30 * time.Second,
				MaxResponseHeaderBytes: answerHeaders, DisableCompression: true,
			},
		}
	}
	named := func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil || !allow.Named(to.Addr()) {
			return fmt.Errorf("%s: %w without TLS", address, ErrNotAllowed)
		}
		return nil
	}
	return &sender{secure: client(allow.Control), plain: client(named), agent: "comfyherd/" + cfg.Version}
}

func (s *sender) close() {
	s.secure.CloseIdleConnections()
	s.plain.CloseIdleConnections()
}

// message is one delivery as it is sent, apart from its time and signatures.
type message struct {
	id   string
	body []byte
}

// sent is what came of a request.
type sent struct {
	status int           // 0: there was no answer
	err    error         // why there was none
	rest   time.Duration // that the receiver asks for
}

func (s *sent) delivered() bool { return s.status >= 200 && s.status <= 299 }

// post sends a message, with a signature for each secret.
func (s *sender) post(ctx context.Context, to string, m *message, secrets [][]byte, now time.Time) sent {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(m.body))
	if err != nil {
		return sent{err: err}
	}
	signatures := make([]string, len(secrets))
	for i, secret := range secrets {
		signatures[i] = jetstream.SignWebhook(secret, m.id, now, m.body)
	}
	r.Header = http.Header{
		"Content-Type": {"application/json"}, "User-Agent": {s.agent}, "Webhook-Id": {m.id},
		"Webhook-Timestamp": {strconv.FormatInt(now.Unix(), 10)}, "Webhook-Signature": {strings.Join(signatures, " ")},
	}
	client := s.plain
	if r.URL.Scheme == "https" {
		client = s.secure
	}
	answer, err := client.Do(r)
	if err != nil {
		return sent{err: err}
	}
	defer func() { _ = answer.Body.Close() }() // nothing of it is kept
	_, _ = io.CopyN(io.Discard, answer.Body, answerRead)
	return sent{status: answer.StatusCode, rest: asked(answer, now)}
}

// asked is how long a receiver asks, by Retry-After, not to be tried again.
func asked(answer *http.Response, now time.Time) time.Duration {
	text := answer.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil && seconds > 0 {
		return min(time.Duration(seconds)*time.Second, longestAsked)
	}
	if at, err := http.ParseTime(text); err == nil && at.After(now) {
		return min(at.Sub(now), longestAsked)
	}
	return 0
}

// words say why a delivery failed, to the owner of the webhook: nothing of the answer but its status, and no address, since a name may
// lead into a network that its owner does not see.
func (s *sent) words(timeout time.Duration) string {
	var dns *net.DNSError
	var within *url.Error
	switch {
	case s.err == nil && s.status >= 300 && s.status <= 399:
		return fmt.Sprintf("the receiver answered %d; redirects are not followed", s.status)
	case s.err == nil:
		return fmt.Sprintf("the receiver answered %d", s.status)
	case errors.Is(s.err, ErrNotAllowed):
		return "its address is not public, or it is http: an operator can allow it (dispatcher run --webhook-allow)"
	case errors.As(s.err, &within) && within.Timeout():
		return fmt.Sprintf("no answer within %s", timeout)
	case errors.As(s.err, &dns):
		return "its name was not found"
	case errors.Is(s.err, syscall.ECONNREFUSED):
		return "the connection was refused"
	case within != nil:
		return short(within.Err.Error())
	}
	return short(s.err.Error())
}

func short(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > errorMost {
		return string(runes[:errorMost])
	}
	return text
}
