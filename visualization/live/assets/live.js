// The page: connect, ask what there is, and build its panels.

/** Mount the live page in an element. */
function mount(root, client) {
  root.classList.add("lv-page");
  const status = h("p", { class: "lv-status", role: "status", "aria-live": "polite" }, "");
  const say = (text, wrong = false) => {
    status.textContent = text;
    status.classList.toggle("lv-wrong", wrong);
  };
  let panels = null;
  const open = async () => {
    const about = await client.ask(null, null);
    panels = about.panels.map((panel) => panel.problem ? new ProblemPanel(panel) : new PANELS[panel.name](client, panel, say));
    const views = panels.map((panel, index) => ({ panel, title: about.panels[index].title ?? about.panels[index].name }));
    root.replaceChildren(h("h1", {}, about.title), status, ...tabbed(views));
    root.live = { client, panels, about }; // to look at from a console
  };
  client.onstate = async (state, reason) => {
    if (state === "closed") say("The connection is lost: the server has stopped, or is restarting.", true);
    if (state === "refused") root.replaceChildren(h("p", { class: "lv-status lv-wrong", role: "alert" }, reason));
    if (state !== "open") return;
    try {
      if (!panels) await open();
      else {
        say("connected again");
        await Promise.all(panels.map((panel) => panel.resume()));
      }
    } catch (error) {
      say(error.message, true);
      if (!panels) root.replaceChildren(status);
    }
  };
}

/** A panel that cannot be shown: it says why. */
class ProblemPanel {
  constructor({ problem }) {
    this.element = h("section", { "aria-label": "Problem" }, h("p", { class: "lv-status lv-wrong" }, problem));
  }

  async resume() {}
}

/** Return panels one under another, or, of several, under tabs. */
function tabbed(views) {
  if (views.length < 2) return views.map(({ panel }) => panel.element);
  const show = (chosen) => views.forEach(({ panel }, index) => {
    panel.element.hidden = index !== chosen;
    buttons[index].setAttribute("aria-selected", String(index === chosen));
    buttons[index].tabIndex = index === chosen ? 0 : -1;
  });
  const buttons = views.map(({ title }, index) => button(title, () => show(index), { role: "tab" }));
  const bar = h("div", { class: "lv-tabs", role: "tablist", "aria-label": "Parts of the page" }, ...buttons);
  bar.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!move) return;
    const next = (buttons.indexOf(document.activeElement) + move + buttons.length) % buttons.length;
    show(next);
    buttons[next].focus();
  });
  views.forEach(({ panel }) => panel.element.setAttribute("role", "tabpanel"));
  show(0);
  return [bar, ...views.map(({ panel }) => panel.element)];
}

export { connect, mount };
export default {
  render({ model, el }) {
    const root = h("div", {}), client = overWidget(model);
    el.append(root);
    mount(root, client);
    return () => client.close();
  },
};
