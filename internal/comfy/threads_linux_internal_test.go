//go:build linux

package comfy

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// written is a file with a content.
func written(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The lines are those of /proc/net/tcp and tcp6.
func TestListeningSocketsAreFoundInTheKernelsTable(t *testing.T) {
	t.Parallel()
	const rest = " 00000000:00000000 00:00000000 00000000  1000        0 "
	table := written(t, strings.Join([]string{
		"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
		"   0: 0100007F:1FFC 00000000:0000 0A" + rest + "11 1 0 100 0 0 10 0",                                                 // 127.0.0.1:8188
		"   1: 00000000:1FFC 00000000:0000 0A" + rest + "12 1 0 100 0 0 10 0",                                                 // any address
		"   2: 0100007F:1FFC 0100007F:9999 01" + rest + "13 1 0 100 0 0 10 0",                                                 // a connection
		"   3: 0100007F:1FFD 00000000:0000 0A" + rest + "14 1 0 100 0 0 10 0",                                                 // another port
		"   4: 0200007F:1FFC 00000000:0000 0A" + rest + "15 1 0 100 0 0 10 0",                                                 // another address
		"   5: 0000000000000000FFFF00000100007F:1FFC 00000000000000000000000000000000:0000 0A" + rest + "16 1 0 100 0 0 10 0", // 127.0.0.1 in a socket of IPv6
		"   6: 00000000000000000000000001000000:1FFC 00000000000000000000000000000000:0000 0A" + rest + "17 1 0 100 0 0 10 0", // ::1
		"   7: 0100007:1FFC 00000000:0000 0A" + rest + "18 1 0 100 0 0 10 0",                                                  // no address
		"   8: 010000:1FFC 00000000:0000 0A" + rest + "19 1 0 100 0 0 10 0",                                                   // no whole words
		"   9: 0100007F:xxxx 00000000:0000 0A" + rest + "20 1 0 100 0 0 10 0",                                                 // no port
		"  10: 0100007F:1FFC 00000000:0000 0A",
	}, "\n"))
	got := listeners(table, 8188, []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")})
	if diff := cmp.Diff([]string{"socket:[11]", "socket:[12]", "socket:[16]", "socket:[17]"}, got); diff != "" {
		t.Error(diff)
	}
	if got := listeners(table+"x", 8188, nil); got != nil {
		t.Errorf("of a table that is not there: %q", got)
	}
}

func TestAThreadsStateIsReadBehindItsName(t *testing.T) {
	t.Parallel()
	numbers := " S 1 2 3 4 5 6 7 8 9 10 150 25 13 14 15 16 17 18 4711 20"
	name, fields, ok := readStat(written(t, "7 (a (b) c)"+numbers))
	if !ok || name != "a (b) c" || fields[0] != "S" || fields[19] != "4711" || ticks(fields[11])+ticks(fields[12]) != 1750*time.Millisecond {
		t.Errorf("%q %q %t", name, fields, ok)
	}
	for _, content := range []string{"", "7 a S 1", "7 (a", "7 (a) S 1 2 3", "7 (a)" + strings.TrimSuffix(numbers, " 20")} {
		if _, _, ok := readStat(written(t, content)); ok {
			t.Errorf("%q is read", content)
		}
	}
	if _, _, ok := readStat(filepath.Join(t.TempDir(), "none")); ok {
		t.Error("a file that is not there is read")
	}
	if bornAt("no process") != "" || ticks("x") != 0 {
		t.Error("what is not there has a time")
	}
}

func TestAProcessReaderNeedsAPort(t *testing.T) {
	t.Parallel()
	for port, want := range map[string]bool{"8188": true, "65535": true, "65536": false, "http": false, "": false} {
		if got := newProcessReader("127.0.0.1", port, "python") != nil; got != want {
			t.Errorf("port %q: %t", port, got)
		}
	}
	if _, ok := newProcessReader("192.0.2.1", "8188", "python").Read(t.Context()); ok {
		t.Error("a process of another machine is seen")
	}
}

func TestAProcessIsSeenAsLongAsItListens(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	w := newProcessReader("127.0.0.1", port, filepath.Base(program))
	first, ok := w.Read(t.Context())
	if !ok || first.Main != os.Getpid() || first.Process != strconv.Itoa(os.Getpid())+"@"+bornAt(strconv.Itoa(os.Getpid())) {
		t.Fatalf("%+v, %t", first, ok)
	}
	for busy := time.Duration(0); busy == 0 && t.Context().Err() == nil; { // until this process has worked for a hundredth of a second
		s, ok := w.Read(t.Context())
		if !ok || s.Process != first.Process || s.Threads[s.Main].Name == "" {
			t.Fatalf("%+v, %t", s, ok)
		}
		for _, thread := range s.Threads {
			busy += thread.Busy
		}
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if s, ok := w.Read(t.Context()); ok {
		t.Errorf("a process that does not listen any more is %+v", s)
	}
	listener, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if s, ok := w.Read(t.Context()); ok { // the search goes through all of /proc
		t.Errorf("it was looked for again at once: %+v", s)
	}
	if s, ok := newProcessReader("127.0.0.1", port, "python").Read(t.Context()); ok {
		t.Errorf("another program is %+v", s)
	}
}
