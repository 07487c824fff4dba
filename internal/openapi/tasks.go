package openapi

import (
	momv1 "holdline/gen/mom/v1"
	"holdline/gen/mom/v1/momv1connect"
	"holdline/internal/contract"
)

// tasks are the resources about tasks for those who speak plain HTTP.
func (d *describer) tasks() object {
	get := func(id, summary, description string, responses object, reasons ...momv1.Reason) object {
		// The MOM may be out of reach, as any service may be.
		reasons = append(reasons, momv1.Reason_REASON_TASK_NOT_FOUND, momv1.Reason_REASON_SERVICE_UNAVAILABLE,
			momv1.Reason_REASON_STORE_UNAVAILABLE, momv1.Reason_REASON_OUTCOME_UNKNOWN)
		responses = append(responses, d.failures(reasons...)...)
		return object{{"get", object{
			{"tags", []string{momv1connect.TaskServiceName}},
			{"operationId", id},
			{"summary", summary},
			{"description", description},
			{"parameters", []object{{
				{"name", "id"}, {"in", "path"}, {"required", true}, {"schema", object{{"type", "string"}}},
				{"description", "A task's id, as `" + contract.HeaderTask + "` and `Location` tell it."},
			}}},
			{"responses", append(responses, field{"default", d.anyError()})},
		}}}
	}
	ok := func(description string, content ...field) field {
		return field{"200", object{
			{"description", description},
			{"headers", object{{contract.HeaderTask, ref("headers", contract.HeaderTask)}}},
			{"content", object(content)},
		}}
	}
	task := d.schemas.message((*momv1.Task)(nil).ProtoReflect().Descriptor())
	return object{
		{"/v1/tasks/{id}", get("task", "A task, without its messages", "What GetTask returns, without the answer.",
			object{ok("The task.", field{"application/json", object{{"schema", task}}})})},
		{"/v1/tasks/{id}/answer", get("answer", "The answer of a task", "What a caller who waits for the task gets: the message, or the error "+
			"in its place, a final error of the service with its own status.",
			object{
				ok("The response message of the task's method.", field{"application/json", object{{"schema", object{{"type", "object"}}}}}, binary),
				{"202", d.stored()},
			},
			momv1.Reason_REASON_TASK_CANCELLED, momv1.Reason_REASON_TASK_EXPIRED, momv1.Reason_REASON_ANSWER_EXPIRED,
			momv1.Reason_REASON_ATTEMPTS_SPENT, momv1.Reason_REASON_ANSWER_TOO_LARGE, momv1.Reason_REASON_ANSWER_UNREADABLE)},
	}
}
