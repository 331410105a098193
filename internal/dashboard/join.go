package dashboard

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// joined is one script with a module and all that it imports. A browser reads a module before it asks for those that it imports. So
// without this the page takes as many round trips as the longest chain of imports has modules, and 30 requests; one file is also smaller.
//
// Its one export has the modules by their paths, for tests in a browser.
//
// It takes modules in the form that ours and the vendored ones have: each import is a line of its own, or the beginning of a minified file;
// exported are declarations that begin a line, or a list at the end. Other forms are errors, as is a circle of imports.
func joined(files map[string][]byte, first string) ([]byte, error) {
	j := joiner{files: files, names: map[string]string{}}
	if err := j.add(first); err != nil {
		return nil, err
	}
	list := slices.Sorted(maps.Keys(j.names))
	for i, name := range list {
		list[i] = fmt.Sprintf("%q: %s", name, j.names[name])
	}
	_, _ = fmt.Fprintf(&j.script, "export const modules = {%s};\n", strings.Join(list, ", "))
	return j.script.Bytes(), nil
}

type joiner struct {
	files  map[string][]byte
	names  map[string]string // of the constants that the modules have become, by path; empty while one is being read
	made   int
	script bytes.Buffer
}

var (
	importForm   = regexp.MustCompile(`\bimport ?(?:\{([^}]*)\}|\* as (\w+)) ?from ?["']([^"']+)["'];`)
	exportedForm = regexp.MustCompile(`(?m)^export ((?:async )?(?:const|function|class) (\w+))`)
	exportedList = regexp.MustCompile(`export ?\{([^}]*)\};`)
	sourceMap    = regexp.MustCompile(`(?m)^//# sourceMappingURL=.*\n?`)
	leftOver     = regexp.MustCompile(`(?m)(^|;)(import|export)\b`)
	renamed      = regexp.MustCompile(`([\w$]+) as ([\w$]+)`)
)

// add writes a module after those that it imports.
func (j *joiner) add(name string) error {
	body, there := j.files[name]
	if !there {
		return fmt.Errorf("the module %s is not there", name)
	}
	j.names[name] = ""
	var begin bytes.Buffer
	for _, match := range importForm.FindAllSubmatch(body, -1) {
		of := path.Join(path.Dir(name), string(match[3]))
		made, read := j.names[of]
		switch {
		case read && made == "":
			return fmt.Errorf("%s and %s import each other", name, of)
		case !read:
			if err := j.add(of); err != nil {
				return err
			}
		}
		what := string(match[2])
		if what == "" {
			what = "{" + renamed.ReplaceAllString(string(match[1]), "$1: $2") + "}"
		}
		_, _ = fmt.Fprintf(&begin, "const %s = %s;\n", what, j.names[of]) // a buffer fails no write
	}
	body = importForm.ReplaceAll(sourceMap.ReplaceAll(body, nil), nil)
	var exports []string
	for _, match := range exportedForm.FindAllSubmatch(body, -1) {
		exports = append(exports, string(match[2]))
	}
	body = exportedForm.ReplaceAll(body, []byte("$1"))
	for _, match := range exportedList.FindAllSubmatch(body, -1) {
		exports = append(exports, renamed.ReplaceAllString(string(match[1]), "$2: $1"))
	}
	body = exportedList.ReplaceAll(body, nil)
	if found := leftOver.Find(body); found != nil {
		return fmt.Errorf("%s has an import or export in a form that cannot be joined: %q", name, found)
	}
	j.made++
	j.names[name] = fmt.Sprintf("module%d", j.made)
	_, _ = fmt.Fprintf(&j.script, "const %s = (() => {\n%s%s\nreturn {%s};\n})();\n", j.names[name], begin.String(), body, strings.Join(exports, ", "))
	return nil
}
