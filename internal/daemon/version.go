package daemon

import (
	"fmt"
	"runtime/debug"
	"strings"
)

// release is the version of a build without a tag in its build information.
const release = "0.1.0-dev"

// Version says which build this is, as in "v0.1.0 (ea7f1ab03e12, modified, go1.26.8)":
// the module's version, the revision where the build recorded one, the compiler.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return release
	}
	version := info.Main.Version
	if version == "" || version == "(devel)" {
		version = release
	}
	var notes []string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			notes = append(notes, s.Value[:min(12, len(s.Value))])
		case s.Key == "vcs.modified" && s.Value == "true":
			notes = append(notes, "modified")
		}
	}
	notes = append(notes, info.GoVersion)
	return fmt.Sprintf("%s (%s)", version, strings.Join(notes, ", "))
}
