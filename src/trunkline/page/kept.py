"""HTML that keeps what is in it when its content changes, so that the keyboard's focus and a selection stay.

NiceGUI sets `innerHTML`. On this element that gives the nodes there already the texts and attributes of the new ones,
finds those with the same `data-key` again, and adds and removes only the rest.
"""

from __future__ import annotations

from typing import Final

from nicegui import ui

_TAG: Final = "kept-html"

SCRIPT: Final = """<script>
{
  const key = node => node?.dataset?.key;
  const copy = (from, to) => {
    for (const { name } of [...to.attributes]) if (!from.hasAttribute(name)) to.removeAttribute(name);
    for (const { name, value } of from.attributes) if (to.getAttribute(name) !== value) to.setAttribute(name, value);
  };
  const fill = (own, next) => {
    const nodes = [...next.childNodes], keys = new Set(nodes.map(key));
    for (const old of [...own.children]) if (key(old) && !keys.has(key(old))) old.remove();
    nodes.forEach((node, at) => {
      const old = own.childNodes[at];
      if (!old || old.nodeName !== node.nodeName || key(old) !== key(node)) own.insertBefore(node, old ?? null);
      else if (node.nodeType === Node.ELEMENT_NODE) { copy(node, old); fill(old, node); }
      else if (old.data !== node.data) old.data = node.data;
    });
    while (own.childNodes.length > nodes.length) own.lastChild.remove();
  };
  customElements.define('TAG', class extends HTMLElement {
    set innerHTML(text) {
      const made = document.createElement('template');
      made.innerHTML = text;
      fill(this, made.content);
    }
  });
}
</script>""".replace("TAG", _TAG)
"""For the head of a page that has any."""


def html(content: str) -> ui.html:
    """`content` comes from us, what others have said is escaped in it."""
    return ui.html(content, sanitize=False, tag=_TAG)
