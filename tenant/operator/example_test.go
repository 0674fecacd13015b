package operator_test

import (
	"fmt"

	"github.com/kvregistry/go/tenant/operator"
)

// A user may look up services of tenant acme, and no more, in a nats-server's configuration file.
func ExamplePermissions() {
	access, err := operator.Permissions("acme", operator.RoleObserver)
	if err != nil {
		fmt.Println(err)
		return
	}
	if access, err = access.For("dashboard"); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print("{ ", operator.User("dashboard", `$HOME "and" 12345`), "\n", access.Config(), "}\n")
	// Output:
	// { user: "dashboard", password: "$HOME \"and\" 12345"
	// permissions: {
	//   publish: {
	//     allow: [
	//       "$SYS.REQ.USER.INFO"
	//       "$JS.API.INFO"
	//       "$JS.API.STREAM.INFO.KV_registry_acme"
	//       "$JS.API.STREAM.MSG.GET.KV_registry_acme"
	//       "$JS.API.CONSUMER.CREATE.KV_registry_acme.>"
	//       "$JS.API.CONSUMER.DELETE.KV_registry_acme.*"
	//       "$JS.FC.KV_registry_acme.*.*"
	//       "$JS.FC.*.*.KV_registry_acme.*.*"
	//     ]
	//   }
	//   subscribe: {
	//     allow: [
	//       "_INBOX_acme.dashboard.>"
	//     ]
	//   }
	// }
	// }
}
