package comfy_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/comfyherd/comfyherd/internal/comfy"
)

// pipes are connections inside of a bubble: dial opens one to whoever accepts.
type pipes struct {
	coming chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) dial() (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.coming <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.coming:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.closed)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// dials has a host listen in the bubble until it has dialled so many times, and gives when it did; the first time is 0.
func dials(t *testing.T, n int, o comfy.Options, open func(dial int) (net.Conn, error)) (times []time.Duration) {
	t.Helper()
	host, _ := inBubble(t, routes{}, o)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	began := time.Now()
	comfy.SetDial(host, func(context.Context, string, string) (net.Conn, error) {
		times = append(times, time.Since(began))
		if len(times) == n {
			stop()
			return nil, errors.New("this was the last one")
		}
		return open(len(times))
	})
	if err := host.Listen(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("it ends with %v", err)
	}
	return times
}

// serve opens websockets and does with each what open says, until stop is called.
func (p *pipes) serve(t *testing.T, open func(conn *websocket.Conn)) (stop func()) {
	t.Helper()
	var serving sync.WaitGroup
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serving.Add(1) // the server does not wait for a websocket
		defer serving.Done()
		upgrader := websocket.Upgrader{}
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		open(conn)
	})}
	serving.Go(func() { _ = server.Serve(p) })
	return func() {
		_ = server.Close()
		serving.Wait()
	}
}

// lives gives how long a host keeps a socket, in whole seconds: the next one is opened a tenth of a second later.
func lives(t *testing.T, o comfy.Options, open func(conn *websocket.Conn)) time.Duration {
	t.Helper()
	p := newPipes()
	stop := p.serve(t, open)
	defer stop()
	times := dials(t, 2, o, func(int) (net.Conn, error) { return p.dial() })
	return times[1].Truncate(time.Second)
}

func TestAHandshakeThatIsNotAnsweredIsGivenUpAfterFiveSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		times := dials(t, 3, comfy.Options{}, func(int) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, theirs) }()
			return ours, nil
		})
		for i := range times[1:] {
			if took := times[i+1] - times[i]; took.Truncate(time.Second) != 5*time.Second {
				t.Errorf("the next one began after %s", took)
			}
		}
	})
}

// The pauses are 0.1, 0.2, 0.4 s and so on up to 5 s, each by up to a half longer or shorter, and begin anew after a socket that was open.
func TestThePausesBetweenSocketsDoubleUntilOneOpens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const opens = 9
		p := newPipes()
		stop := p.serve(t, func(conn *websocket.Conn) { _, _, _ = conn.ReadMessage() })
		defer stop()
		times := dials(t, 12, comfy.Options{}, func(dial int) (net.Conn, error) {
			if dial == opens {
				return p.dial()
			}
			return nil, errors.New("nobody is there")
		})
		for i, ms := range []int{100, 200, 400, 800, 1600, 3200, 5000, 5000, 100, 200, 400} {
			pause := time.Duration(ms) * time.Millisecond
			if took := times[i+1] - times[i]; took < pause/2 || took >= pause*3/2 {
				t.Errorf("pause %d was %s, want about %s", i+1, took, pause)
			}
		}
	})
}

// reads takes in what comes for so long, and answers pings.
func reads(conn *websocket.Conn, d time.Duration) {
	end := time.AfterFunc(d, func() { _ = conn.SetReadDeadline(time.Now()) })
	defer end.Stop()
	for {
		if _, _, err := conn.ReadMessage(); err != nil {
			return
		}
	}
}

// A host says nothing of its own but to pings: one that answers none for twice the time between two is not there any more.
func TestASocketLivesAsLongAsSomethingComesOverIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		serve func(conn *websocket.Conn)
		life  time.Duration
	}{
		"PingsAreNotAnswered": {func(conn *websocket.Conn) {
			conn.SetPingHandler(func(string) error { return nil })
			reads(conn, time.Hour)
		}, 20 * time.Second},
		"ThreePingsAreAnswered": {func(conn *websocket.Conn) {
			pings := 0
			conn.SetPingHandler(func(payload string) error {
				if pings++; pings > 3 {
					return nil
				}
				return conn.WriteControl(websocket.PongMessage, []byte(payload), time.Now().Add(time.Second))
			})
			reads(conn, time.Hour)
		}, 50 * time.Second},
		"AMessageComesAndPingsAreNotAnswered": {func(conn *websocket.Conn) {
			conn.SetPingHandler(func(string) error { return nil })
			says := time.AfterFunc(15*time.Second, func() { _ = conn.WriteMessage(websocket.TextMessage, []byte(`{}`)) })
			defer says.Stop()
			reads(conn, time.Hour)
		}, 35 * time.Second},
		"ItEndsByItself": {func(conn *websocket.Conn) { reads(conn, time.Hour) }, time.Hour},
		"NothingIsTakenIn": {func(conn *websocket.Conn) { // neither the features nor anything else
			<-time.After(time.Minute)
		}, 5 * time.Second},
		"PingsAreNotTakenIn": {func(conn *websocket.Conn) {
			_, _, _ = conn.ReadMessage() // the features
			for range 30 {
				<-time.After(time.Second)
				if conn.WriteMessage(websocket.TextMessage, []byte(`{}`)) != nil {
					return
				}
			}
		}, 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if life := lives(t, comfy.Options{PingInterval: 10 * time.Second}, c.serve); life != c.life {
					t.Errorf("it lived for %s, want %s", life, c.life)
				}
			})
		})
	}
}

// The length of a message is known before its bytes have come.
func TestAMessageThatIsTooLongEndsItsSocket(t *testing.T) {
	t.Parallel()
	for length, life := range map[uint64]time.Duration{256 << 20: 20 * time.Second, 256<<20 + 1: 0} {
		synctest.Test(t, func(t *testing.T) {
			got := lives(t, comfy.Options{PingInterval: 10 * time.Second}, func(conn *websocket.Conn) {
				_, _, _ = conn.ReadMessage() // the features
				head := binary.BigEndian.AppendUint64([]byte{0x80 | websocket.BinaryMessage, 127}, length)
				if _, err := conn.NetConn().Write(head); err != nil {
					t.Error(err)
				}
				conn.SetPingHandler(func(string) error { return nil })
				reads(conn, time.Hour)
			})
			if got != life {
				t.Errorf("with a message of %d bytes it lived for %s, want %s", length, got, life)
			}
		})
	}
}

func TestAPingIsWaitedForTwoSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &oneFile{t: t}
		host, _ := inBubble(t, f.answers(), comfy.Options{})
		socket, err := comfy.OpenSocket(host)
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Drop()
		for _, c := range []struct {
			silent bool
			took   time.Duration
		}{{false, 0}, {true, 2 * time.Second}} {
			if c.silent {
				socket.FallSilent()
			}
			f.put("") // otherwise no ping is needed
			began := time.Now()
			if _, err := host.Process(t.Context()); (err != nil) != c.silent || time.Since(began) != c.took {
				t.Errorf("it took %s, %v; want %s", time.Since(began), err, c.took)
			}
		}
	})
}
