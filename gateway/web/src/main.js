// @ts-check
// The page: a clip goes in, takes of it come back, both are heard at equal loudness.
// No framework and no build step: these modules are what runs.

import { Player } from "./audio/player.js";
import { mountIntake } from "./clip/intake.js";
import { PartFields } from "./clip/part-fields.js";
import { mountDesk } from "./form/desk.js";
import { Form } from "./form/form.js";
import { Strength } from "./form/strength.js";
import { followLimits, meetServer, readLimits } from "./gateway/server.js";
import { mountLibrary } from "./library/library.js";
import { Listening } from "./listening/listening.js";
import { mountTransport } from "./listening/transport.js";
import { createStore } from "./state.js";
import { mountTakes } from "./takes/list.js";
import { Runner } from "./takes/runner.js";

const store = createStore();
const player = new Player();
const listening = new Listening(store, player);
const part = new PartFields(store);
const runner = new Runner(store, listening);
const strength = new Strength(store);
const form = new Form(store, strength, part, () => readLimits(store));

mountLibrary(store);
mountDesk(store, form, strength, (requests) => runner.make(requests));
mountTakes(store, runner, listening);
mountTransport(store, player, part);
mountIntake(store, () => player.stop());
followLimits(store);
meetServer(store);
