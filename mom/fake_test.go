package mom

import "holdline/internal/contract"

// testID is the id of a new task of a service that no schema has.
func testID() contract.TaskID {
	return contract.NewTaskID("test.v1.Service", 1, contract.Anonymous, "/test.v1.Service/Do", "")
}
