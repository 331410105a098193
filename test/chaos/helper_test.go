//go:build unix

package chaos_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/natsserver"
)

const (
	helperVariable = "COMFYHERD_CHAOS_HELPER" // which helper the test binary is
	configVariable = "COMFYHERD_CHAOS_CONFIG" // its settings, JSON
)

// helpers are the programs that the test binary can run as instead of the tests. Each ends by SIGTERM, and when its standard input
// ends, which happens when the test process is gone.
var helpers = map[string]func() error{
	"nats": helpNATS, "sim": helpSim, "reaper": helpReap,
}

func settings(to any) error { return json.Unmarshal([]byte(os.Getenv(configVariable)), to) }

// untilAsked blocks until the helper must end.
func untilAsked() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM, syscall.SIGINT)
	gone := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(gone)
	}()
	select {
	case <-asked:
	case <-gone:
	}
}

// natsSettings is one NATS server; with peers it is one of a cluster.
type natsSettings struct {
	Name  string   `json:"name"`
	Port  int      `json:"port"`
	Store string   `json:"store"`
	Route int      `json:"route,omitempty"`
	Peers []string `json:"peers,omitempty"`
}

func helpNATS() error {
	var s natsSettings
	if err := settings(&s); err != nil {
		return err
	}
	if len(s.Peers) > 0 {
		return s.serveInCluster()
	}
	one, err := natsserver.Start(natsserver.Config{Name: s.Name, Port: s.Port, StoreDir: s.Store})
	if err != nil {
		return err
	}
	untilAsked()
	return one.Close()
}

// healthy is the line that a server of a cluster prints when all its streams are current.
const healthy = "healthy"

func (s *natsSettings) serveInCluster() error {
	one, err := server.NewServer(&server.Options{
		ServerName: s.Name, Host: natsserver.DefaultHost, Port: s.Port, JetStream: true, StoreDir: s.Store, NoSigs: true,
		MaxPayload: natsserver.DefaultMaxPayload, PingInterval: 2 * time.Second,
		Cluster: server.ClusterOpts{Name: "chaos", Host: natsserver.DefaultHost, Port: s.Route, NoAdvertise: true, PingInterval: time.Second},
		Routes:  server.RoutesFromStr(strings.Join(s.Peers, ",")),
	})
	if err != nil {
		return err
	}
	one.Start()
	if !one.ReadyForConnections(30 * time.Second) {
		return errors.New("NATS takes no connections")
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for one.Healthz(&server.HealthzOptions{}).Status != "ok" || one.NumRoutes() < len(s.Peers)-1 {
		<-tick.C
	}
	fmt.Println(healthy)
	untilAsked()
	one.Shutdown()
	one.WaitForShutdown()
	return nil
}

// simSettings is one simulated ComfyUI host. Every run is written to the journal at once, so that nothing is lost by kill -9.
type simSettings struct {
	Name    string `json:"name"`
	Addr    string `json:"addr"`
	Journal string `json:"journal"`
	Seed    uint64 `json:"seed"`
}

func helpSim() error {
	var s simSettings
	if err := settings(&s); err != nil {
		return err
	}
	journal, err := os.OpenFile(s.Journal, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer journal.Close()
	sim, err := comfysim.StartAt(s.Addr, comfysim.Config{Name: s.Name, Seed: s.Seed})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- keepJournal(ctx, sim, journal) }()
	untilAsked()
	sim.Close()
	cancel()
	return <-done
}

// keepJournal writes a run whenever it has changed; the last line of a run counts.
func keepJournal(ctx context.Context, sim *comfysim.Server, to io.Writer) error {
	var written []comfysim.Outcome
	var failed error
	_ = sim.Wait(ctx, func() bool {
		for i, run := range sim.Runs() {
			if i < len(written) && written[i] == run.Outcome {
				continue
			}
			written = append(written[:i], append([]comfysim.Outcome{run.Outcome}, written[min(i+1, len(written)):]...)...)
			line, err := json.Marshal(entry{Life: os.Getpid(), Number: i, Run: run})
			if err == nil {
				_, err = to.Write(append(line, '\n'))
			}
			if err != nil {
				failed = err
				return true
			}
		}
		return false
	})
	return failed
}

// helpReap kills the processes that the test has started and not ended, when the test process is gone: it reads lines "+pid" and
// "-pid" until its input ends.
func helpReap() error {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM)
	alive := map[int]bool{}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		pid, err := strconv.Atoi(lines.Text()[1:])
		if err != nil {
			return err
		}
		if lines.Text()[0] == '+' {
			alive[pid] = true
		} else {
			delete(alive, pid)
		}
	}
	for pid := range alive {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			fmt.Fprintln(os.Stderr, "kill", pid, err)
		}
	}
	return nil
}

func natsURL(port int) string {
	u := url.URL{Scheme: "nats", Host: "127.0.0.1:" + strconv.Itoa(port)}
	return u.String()
}
