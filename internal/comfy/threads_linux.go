package comfy

import (
	"bufio"
	"context"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// procReader reads /proc.
type procReader struct {
	host    string
	port    uint16
	program string // how the name of its executable begins

	mu   sync.Mutex
	pid  string
	born string // when pid began, in ticks since boot
	fd   string // the link of its listening socket
	link string
	next time.Time // no search before it
}

// searchAgain is how long a process that was not found is not looked for: the search goes through all of /proc.
const searchAgain = 30 * time.Second

func newProcessReader(host, port, program string) ProcessReader {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil
	}
	return &procReader{host: host, port: uint16(n), program: program}
}

func (w *procReader) Read(ctx context.Context) (Snapshot, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.still() && !w.find(ctx) {
		return Snapshot{}, false
	}
	main, err := strconv.Atoi(w.pid)
	if err != nil {
		return Snapshot{}, false
	}
	s := Snapshot{Process: w.pid + "@" + w.born, Main: main, Threads: map[int]Thread{}}
	tasks, err := os.ReadDir(filepath.Join("/proc", w.pid, "task"))
	if err != nil {
		return Snapshot{}, false
	}
	for _, task := range tasks {
		name, fields, ok := readStat(filepath.Join("/proc", w.pid, "task", task.Name(), "stat"))
		id, err := strconv.Atoi(task.Name())
		if ok && err == nil {
			s.Threads[id] = Thread{Name: name, Busy: ticks(fields[11]) + ticks(fields[12])}
		}
	}
	return s, len(s.Threads) > 0
}

// still says that the process found last is the same and listens.
func (w *procReader) still() bool {
	if w.pid == "" {
		return false
	}
	link, err := os.Readlink(w.fd)
	return err == nil && link == w.link && bornAt(w.pid) == w.born
}

// find looks for a process of that program that has the listening socket of the host's port.
func (w *procReader) find(ctx context.Context) bool {
	w.pid = ""
	if time.Now().Before(w.next) {
		return false
	}
	w.next = time.Now().Add(searchAgain)
	addresses := w.local(ctx)
	if len(addresses) == 0 {
		return false
	}
	sockets := append(listeners("/proc/net/tcp", w.port, addresses), listeners("/proc/net/tcp6", w.port, addresses)...)
	if len(sockets) == 0 {
		return false
	}
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	for _, process := range processes {
		pid := process.Name()
		exe, err := os.Readlink(filepath.Join("/proc", pid, "exe"))
		if err != nil || !strings.HasPrefix(filepath.Base(exe), w.program) {
			continue
		}
		fds, err := os.ReadDir(filepath.Join("/proc", pid, "fd"))
		if err != nil {
			continue
		}
		for _, fd := range fds {
			path := filepath.Join("/proc", pid, "fd", fd.Name())
			if link, err := os.Readlink(path); err == nil && slices.Contains(sockets, link) {
				w.pid, w.born, w.fd, w.link = pid, bornAt(pid), path, link
				w.next = time.Time{}
				return w.born != ""
			}
		}
	}
	return false
}

// local are the host's addresses, if they are this machine's.
func (w *procReader) local(ctx context.Context) []netip.Addr {
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", w.host)
	if err != nil {
		return nil
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var local []netip.Addr
	for _, address := range found {
		address = address.Unmap()
		here := slices.ContainsFunc(own, func(a net.Addr) bool {
			prefix, err := netip.ParsePrefix(a.String())
			return err == nil && prefix.Addr().Unmap() == address
		})
		if address.IsLoopback() || here {
			local = append(local, address)
		}
	}
	return local
}

// listeners are the listening sockets of a port in one of the kernel's tables, as links of file descriptors name them.
func listeners(table string, port uint16, addresses []netip.Addr) []string {
	file, err := os.Open(table)
	if err != nil {
		return nil
	}
	defer file.Close()
	var found []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != "0A" {
			continue
		}
		text, hexPort, _ := strings.Cut(fields[1], ":")
		address, ok := kernelAddress(text)
		if n, err := strconv.ParseUint(hexPort, 16, 16); err != nil || uint16(n) != port || !ok {
			continue
		}
		if address.IsUnspecified() || slices.Contains(addresses, address) {
			found = append(found, "socket:["+fields[9]+"]")
		}
	}
	return found
}

// kernelAddress reads an address in words of four bytes, each with its lowest byte first.
func kernelAddress(text string) (netip.Addr, bool) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw)%4 != 0 {
		return netip.Addr{}, false
	}
	for word := range slices.Chunk(raw, 4) {
		slices.Reverse(word)
	}
	address, ok := netip.AddrFromSlice(raw)
	return address.Unmap(), ok
}

func bornAt(pid string) string {
	if _, fields, ok := readStat(filepath.Join("/proc", pid, "stat")); ok {
		return fields[19]
	}
	return ""
}

// readStat reads a stat file: the name in brackets, and the fields after it, the first of which is the state (field 3
// of proc(5)).
func readStat(path string) (name string, fields []string, ok bool) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", nil, false
	}
	_, rest, _ := strings.Cut(string(content), "(")
	end := strings.LastIndexByte(rest, ')')
	if end < 0 {
		return "", nil, false
	}
	fields = strings.Fields(rest[end+1:])
	return rest[:end], fields, len(fields) > 20
}

// ticks reads a time in hundredths of a second, which is what Linux tells on every machine.
func ticks(field string) time.Duration {
	n, err := strconv.ParseInt(field, 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(n) * (time.Second / 100)
}
