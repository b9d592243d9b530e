"""
What is known of hermes' tools by their names: it does not say of itself what they change.
"""

from __future__ import annotations

from typing import Final

READ_ONLY: Final = frozenset(
    """
    browser_console browser_get_images browser_snapshot browser_vision feishu_doc_read
    feishu_drive_list_comment_replies feishu_drive_list_comments ha_get_state
    ha_list_entities ha_list_services kanban_attachments kanban_list kanban_show
    project_list read_file read_terminal search_files session_search skill_view skills_list
    video_analyze vision_analyze web_extract web_search x_search yb_query_group_info
    yb_query_group_members yb_search_sticker
    """.split()
)
"""Those that change nothing. Calls of all others keep their order in a turn."""

WRITERS: Final = frozenset({"execute_code", "patch", "process", "terminal", "write_file"})
"""Those that change files, or may."""

NEEDS_AN_AGENT: Final = frozenset(
    {"clarify", "delegate_task", "memory", "read_terminal", "session_search", "todo"}
)
"""Those whose handlers need something that only hermes' own loop has at hand."""
