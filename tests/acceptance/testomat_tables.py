"""The two tables of billable routes, as the product's documentation has them."""

from __future__ import annotations

METHODS = ("GET", "POST", "PATCH", "PUT", "DELETE")

V2 = """
/api/v2/{project_id}/tests, /api/v2/{project_id}/tests/{id} | POST, PATCH, PUT, DELETE
/api/v2/{project_id}/suites, /api/v2/{project_id}/suites/{id} | POST, PATCH, PUT, DELETE
/api/v2/{project_id}/plans, /api/v2/{project_id}/plans/{id} | POST, PATCH, PUT, DELETE
/api/v2/{project_id}/runs, /api/v2/{project_id}/runs/{id} | POST, PATCH, PUT, DELETE
/api/v2/{project_id}/testruns, /api/v2/{project_id}/testruns/{id} | POST, PATCH, PUT, DELETE
/api/v2/{project_id}/rungroups, /api/v2/{project_id}/rungroups/{id} | POST, PATCH, PUT, DELETE
/api/v2/{project_id}/steps, /api/v2/{project_id}/steps/{id} | POST, PATCH, PUT, DELETE
/api/v2/{project_id}/snippets, /api/v2/{project_id}/snippets/{id} | POST, PATCH, PUT, DELETE
/api/v2/{project_id}/labels, /api/v2/{project_id}/labels/{id} | POST, PATCH, PUT, DELETE
/api/v2/{project_id}/issues, /api/v2/{project_id}/issues/{id} | POST, DELETE
/api/v2/{project_id}/requirements, /api/v2/{project_id}/requirements/{id} | POST, PATCH, PUT, DELETE
"""

V1 = """
/api/projects/{id} | PATCH, PUT, DELETE
/api/{project_id}/avatar, /api/{project_id}/artifacts | POST
/api/{project_id}/tests, /api/{project_id}/tests/{id} | POST, PATCH, PUT, DELETE
/api/{project_id}/tests/delete_detached | POST, PATCH, PUT, DELETE
/api/{project_id}/tests/{test_id}/copy | POST, PATCH, PUT, DELETE
/api/{project_id}/suites, /api/{project_id}/suites/{id} | POST, PATCH, PUT, DELETE
/api/{project_id}/suites/delete_empty | POST, PATCH, PUT, DELETE
/api/{project_id}/suites/{suite_id}/copy | POST, PATCH, PUT, DELETE
/api/{project_id}/suites/{suite_id}/markdown | POST, PATCH, PUT, DELETE
/api/{project_id}/branches, /api/{project_id}/branches/{id} | POST, PATCH, PUT, DELETE
/api/{project_id}/branches/destroy_merged | POST, PATCH, PUT, DELETE
/api/{project_id}/branches/{branch_id}/destroy_item | POST, PATCH, PUT, DELETE
/api/{project_id}/branches/{branch_id}/revert | POST, PATCH, PUT, DELETE
/api/{project_id}/templates, /api/{project_id}/templates/{id} | POST, PATCH, PUT, DELETE
/api/{project_id}/diagrams, /api/{project_id}/diagrams/{id} | POST, PATCH, PUT, DELETE
/api/{project_id}/plans, /api/{project_id}/plans/{id} | POST, PATCH, PUT, DELETE
/api/{project_id}/rungroups, /api/{project_id}/rungroups/{id} | POST, PATCH, PUT, DELETE
/api/{project_id}/rungroups/delete_multiple | POST, PATCH, PUT, DELETE
/api/{project_id}/testruns, /api/{project_id}/testruns/{id} | POST, PATCH, PUT, DELETE
/api/{project_id}/steps, /api/{project_id}/steps/{id} | POST, PATCH, PUT, DELETE
/api/{project_id}/steps/delete_multiple, /api/{project_id}/steps/merge | POST, PATCH, PUT, DELETE
/api/{project_id}/runs, /api/{project_id}/runs/{id} | POST, PATCH, PUT, DELETE
/api/{project_id}/runs/delete_multiple, /api/{project_id}/runs/merge | POST, PATCH, PUT, DELETE
/api/{project_id}/runs/{run_id}/relaunch | POST, PATCH, PUT, DELETE
/api/{project_id}/runs/{run_id}/relaunch_copy | POST, PATCH, PUT, DELETE
/api/{project_id}/runs/{run_id}/email | POST, PATCH, PUT, DELETE
/api/{project_id}/runs/{run_id}/plan | POST, PATCH, PUT, DELETE
/api/{project_id}/labels, /api/{project_id}/labels/{id} | POST, DELETE
/api/{project_id}/labels/{label_id}/link | POST, DELETE
/api/{project_id}/attachments, /api/{project_id}/attachments/{id} | POST, DELETE
/api/{project_id}/tests/{test_id}/attachment | POST, DELETE
/api/{project_id}/testruns/{testrun_id}/attachment | POST, DELETE
/api/{project_id}/settings | PATCH, PUT
/api/{project_id}/sharings | POST
/api/{project_id}/pdf_export | GET
/api/{project_id}/prompts, /api/{project_id}/prompts/{id} | POST, PATCH, PUT
/api/{project_id}/analytics/query_settings | POST
/api/{project_id}/jira/projects | POST, PATCH, PUT, DELETE
/api/{project_id}/jira/projects/{jiraproject_id} | POST, PATCH, PUT, DELETE
/api/{project_id}/jira/projects/connect | POST, PATCH, PUT, DELETE
/api/{project_id}/ims/config | POST, DELETE
"""


def rows(table: str) -> dict[str, frozenset[str]]:
    """Billable methods by path template."""
    found: dict[str, frozenset[str]] = {}
    for line in table.strip().splitlines():
        paths, methods = line.split("|")
        for path in paths.split(","):
            assert path.strip() not in found, path
            found[path.strip()] = frozenset(method.strip() for method in methods.split(","))
    return found


def example(template: str, project: str) -> str:
    """A path of a template: the project's name, and 7 for every other parameter."""
    segments = template.split("/")
    of_project = ("{project_id}", "{id}") if template == "/api/projects/{id}" else ("{project_id}",)
    filled = [project if s in of_project else "7" if s[:1] == "{" else s for s in segments]
    return "/".join(filled)
