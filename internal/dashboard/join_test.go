package dashboard_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/dashboard"
)

var emptyLines = regexp.MustCompile(`\n\n+`)

func TestModulesBecomeOneScriptBehindWhatTheyImport(t *testing.T) {
	t.Parallel()
	script, err := dashboard.Joined(map[string][]byte{
		"app.js":         []byte("import * as one from './views/one.js';\nimport { two } from './two.js';\none.say(two);\n"),
		"views/one.js":   []byte("import { two as of } from '../two.js';\nexport const say = (x) => of + x;\nexport async function later() {}\nexport class Late {}\n"),
		"two.js":         []byte("import{a as b}from\"./vendor/min.js\";import{c}from\"./vendor/min.js\";export const two = b;\n"),
		"vendor/min.js":  []byte("const t=1;export{t as a,t as c};\n//# sourceMappingURL=min.js.map\n"),
		"vendor/rest.js": []byte("nobody imports this;\n"),
	}, "app.js")
	if err != nil {
		t.Fatal(err)
	}
	const want = `const module1 = (() => {
const t=1;
return {a: t,c: t};
})();
const module2 = (() => {
const {a: b} = module1;
const {c} = module1;
const two = b;
return {two};
})();
const module3 = (() => {
const { two: of } = module2;
const say = (x) => of + x;
async function later() {}
class Late {}
return {say, later, Late};
})();
const module4 = (() => {
const one = module3;
const { two } = module2;
one.say(two);
return {};
})();
export const modules = {"app.js": module4, "two.js": module2, "vendor/min.js": module1, "views/one.js": module3};
`
	if diff := cmp.Diff(want, emptyLines.ReplaceAllString(string(script), "\n")); diff != "" {
		t.Errorf("the script (-want +got):\n%s", diff)
	}
}

func TestModulesThatCannotBeJoinedAreErrors(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		files map[string]string
		want  string
	}{
		"Missing":      {map[string]string{"app.js": "import { a } from './gone.js';\n"}, "the module gone.js is not there"},
		"Circle":       {map[string]string{"app.js": "import { a } from './b.js';\n", "b.js": "import { c } from './app.js';\nexport const a = c;\n"}, "b.js and app.js import each other"},
		"OtherForm":    {map[string]string{"app.js": "import a from './b.js';\n", "b.js": ""}, "cannot be joined"},
		"DefaultValue": {map[string]string{"app.js": "export default 3;\n"}, "cannot be joined"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := map[string][]byte{}
			for path, text := range tc.files {
				files[path] = []byte(text)
			}
			if _, err := dashboard.Joined(files, "app.js"); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
