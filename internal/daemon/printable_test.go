package daemon_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"unicode"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

// hostile are characters that a terminal obeys, by what they are.
var hostile = map[string]string{
	"Escape": "\x1b[2J", "Bell": "\a", "CarriageReturn": "\r", "LineFeed": "\n", "Tab": "\t", "Null": "\x00", "Delete": "\x7f",
	"ControlSequence": "\u009b31m", "OperatingSystemCommand": "\u009d0;title\u009c", "NextLine": "\u0085",
	"RightToLeft": "\u202e", "Isolate": "\u2067", "ArabicMark": "\u061c", "ZeroWidth": "\u200b", "SoftHyphen": "\u00ad", "ByteOrderMark": "\ufeff",
	"LineSeparator": "\u2028", "ParagraphSeparator": "\u2029", "Tag": "\U000e0041", "NoUTF8": "\x9b2J",
}

func TestNothingThatSteersATerminalIsPrintable(t *testing.T) {
	t.Parallel()
	for name, bad := range hostile {
		if got := daemon.Printable("a" + bad + "b"); strings.ContainsFunc(got, obeyed) || !strings.HasPrefix(got, "a") || !strings.HasSuffix(got, "b") {
			t.Errorf("%s: %q", name, got)
		}
		text, err := json.Marshal("a" + bad + "b")
		if err != nil {
			t.Fatal(err)
		}
		if got := string(daemon.PrintableJSON(text)); strings.ContainsFunc(got, obeyed) {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := daemon.Printable("ça va: 猫, 😀"); got != "ça va: 猫, 😀" {
		t.Errorf("harmless letters became %q", got)
	}
	if got := string(daemon.PrintableJSON([]byte("{\"a\":\"\u202e\u009b\U000e0041 猫\xff\"}\n"))); got != `{"a":"\u202e\u009b\udb40\udc41 猫\ufffd"}`+"\n" {
		t.Errorf("got %q", got)
	}
}

func TestNoLogLineSteersATerminal(t *testing.T) {
	t.Parallel()
	for _, asJSON := range []bool{false, true} {
		for name, bad := range hostile {
			var out bytes.Buffer
			daemon.Logger(&out, slog.LevelInfo, asJSON).Info("a"+bad, "k"+bad, "v"+bad)
			if line, found := strings.CutSuffix(out.String(), "\n"); !found || strings.ContainsFunc(line, obeyed) {
				t.Errorf("%s, JSON %v: %q", name, asJSON, out.String())
			}
		}
	}
}

func obeyed(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'
}

func FuzzPrintableJSONSaysTheSame(f *testing.F) {
	for _, bad := range hostile {
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var before, after string
		if err := json.Unmarshal(text, &before); err != nil {
			t.Fatal(err)
		}
		clean := daemon.PrintableJSON(text)
		if err := json.Unmarshal(clean, &after); err != nil || after != before || strings.ContainsFunc(string(clean), obeyed) {
			t.Fatalf("%q became %q: %v", text, clean, err)
		}
		if strings.ContainsFunc(daemon.Printable(s), obeyed) {
			t.Fatalf("%q", daemon.Printable(s))
		}
	})
}
