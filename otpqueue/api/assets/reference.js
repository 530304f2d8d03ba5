// The API reference: loads the viewer (Scalar) and configures it for this deployment.
"use strict";

(() => {
  const nonce = document.querySelector('meta[property="csp-nonce"]').content;
  const createElement = document.createElement.bind(document);
  // The policy allows only styles with the nonce, and the viewer's editor creates its styles without one.
  document.createElement = (name, ...rest) => {
    const element = createElement(name, ...rest);
    if (String(name).toLowerCase() === "style") element.nonce = nonce;
    return element;
  };

  const hidden = [
    ..."c clojure csharp dart fsharp go http java js julia kotlin objc ocaml php powershell r ruby rust swift".split(" "),
    ..."node/axios node/ofetch node/undici".split(" "),
    ..."python/aiohttp python/httpx_async python/httpx_sync python/python3".split(" "),
    ..."shell/httpie shell/wget".split(" "),
  ];
  const configuration = {
    url: "/openapi.json",
    servers: [{ url: location.origin, description: "this deployment" }],
    authentication: { preferredSecurityScheme: "apiKey" },
    hiddenClients: hidden,
    featuredClients: ["shell/curl", "python/requests", "node/fetch"],
    defaultHttpClient: { targetKey: "shell", clientKey: "curl" },
    documentDownloadType: "json",
    showOperationId: true,
    defaultOpenFirstTag: true,
    // Nothing is loaded from, or sent to, another host. An API key is not stored in the browser.
    withDefaultFonts: false,
    telemetry: false,
    persistAuth: false,
    hideClientButton: true,
    showDeveloperTools: "never",
    agent: { disabled: true },
    mcp: { disabled: true },
  };
  const viewer = createElement("script");
  viewer.src = document.currentScript.dataset.viewer;
  viewer.addEventListener("load", () => window.Scalar.createApiReference("#reference", configuration));
  document.head.append(viewer);
})();
