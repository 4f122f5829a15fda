// Added to a page by its tests: does what a person would do, and writes down what came of it.
(async () => {
  const pause = () => new Promise((done) => setTimeout(done, 50));
  const shown = () => [...document.querySelectorAll(".diagram")].find((one) => !one.hidden);
  const page = {
    pause, shown,
    all: (what) => [...shown().querySelectorAll(what)],
    text: (what) => (shown().querySelector(what) || document.querySelector(what)).textContent,
    click: async (what) => { shown().querySelector(what).click(); await pause(); },
    tab: async (i) => { document.querySelectorAll('[role="tab"]')[i].click(); await pause(); },
    key: async (key) => {
      const target = shown().querySelector(".scroller");
      target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
      await pause();
    },
    type: async (text) => {
      const input = shown().querySelector("input");
      input.value = text;
      input.dispatchEvent(new Event("input", { bubbles: true }));
      await pause();
    },
    panel: () => shown().querySelector(".panel").textContent,
    labels: () => [...shown().querySelectorAll(".scroller .hit text:not(.time):not(.gap)")].map((one) => one.textContent),
    lanes: () => [...shown().querySelectorAll(".scroller .name")].map((one) => one.textContent),
  };
  let value = null;
  await pause();
  try {
    value = await (async () => { /* SCRIPT */ })();
  } catch (error) {
    window.faults.push(String(error && error.stack || error));
  }
  const loaded = performance.getEntriesByType("resource").length;
  const result = document.createElement("pre");
  result.textContent = `RESULT[[${JSON.stringify({ value, faults: window.faults, loaded })}]]END`;
  document.body.replaceChildren(result);
})();
