"""Every string of the page, English and Spanish. English is the key: what the code says is what the page says.

Labels that never change are translated in the browser (`say`); what the server writes later is translated there
(`Voice`), in the language that the browser asked for.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from functools import cache

import gradio as gr

from ftui.ui.sentences import SENTENCES, WORDS

BLANK = r"{(\w+)}"
NESTED = ("reason", "rows", "error")
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"
SPANISH = {
    # the frame
    "Model": "Modelo",
    "Data": "Datos",
    "Train": "Entrenar",
    "Chat": "Chat",
    "Fine-tune a small language model, see it learn, and prove what it learned.": "Afina un modelo de lenguaje pequeño, míralo aprender y comprueba qué aprendió.",
    "The GPU has failed in a way that this process cannot mend, and takes no more work from it. What was saved is kept: restart ftui, then Resume goes on from the newest checkpoint.": "La GPU ha fallado de un modo que este proceso no puede reparar y ya no acepta trabajo de él. Lo guardado se conserva: reinicia ftui y Reanudar sigue desde el último punto de control.",
    "Restart ftui": "Reiniciar ftui",
    # model
    "Base model": "Modelo base",
    "Choose one, or write a Hub id or a local folder.": "Elige uno, o escribe un id del Hub o una carpeta local.",
    "Advanced": "Avanzado",
    "Look at this model": "Examinar este modelo",
    "This machine": "Esta máquina",
    "Starter: SmolLM2 135M, runs anywhere": "Inicio: SmolLM2 135M, funciona en cualquier equipo",
    "Chat template": "Plantilla de chat",
    "Origin": "Origen",
    "Architecture": "Arquitectura",
    "Parameters": "Parámetros",
    "Context": "Contexto",
    "License": "Licencia",
    "not stated": "no indicada",
    "its own": "la suya",
    "none; plain text is used": "ninguna; se usa texto simple",
    "This model can be tuned.": "Este modelo se puede afinar.",
    "{gb} GB of memory, {cores} cores": "{gb} GB de memoria, {cores} núcleos",
    "computes in {dtype}": "calcula en {dtype}",
    "tokens": "tokens",
    # data
    "Where the rows come from": "De dónde vienen las filas",
    "CSV, JSON, JSONL, Parquet or text": "CSV, JSON, JSONL, Parquet o texto",
    "A file or folder on the server, or owner/name on the Hub.": "Un archivo o carpeta del servidor, o dueño/nombre en el Hub.",
    "Read these rows": "Leer estas filas",
    "The rows": "Las filas",
    "Choose the column for each role, or write {{column}} yourself.": "Elige la columna para cada papel, o escribe {{columna}}.",
    "Chosen for these rows: {epochs} epochs, rows of up to {longest} tokens, answers of up to {answer}. You can change it under Train.": "Elegido para estas filas: {epochs} épocas, filas de hasta {longest} tokens, respuestas de hasta {answer}. Puedes cambiarlo en Entrenar.",
    "What the model will see": "Lo que verá el modelo",
    "context": "contexto",
    "learned": "se aprende",
    "cut off": "se corta",
    "special token": "token especial",
    "Row {row}": "Fila {row}",
    "{rows} rows: {usable} can be used, {left} are left out": "{rows} filas: {usable} sirven, {left} se omiten",
    "Advanced: reading and splitting": "Avanzado: lectura y partición",
    "Paste rows": "Pegar filas",
    "CSV, JSON, JSONL or plain text": "CSV, JSON, JSONL o texto simple",
    "Use this text": "Usar este texto",
    "Check and show": "Comprobar y mostrar",
    "Fix": "Arreglo",
    "Mend": "Arreglar",
    "Undo": "Deshacer",
    "Order": "Orden",
    "As they come": "Como vienen",
    "Longest first": "Primero las más largas",
    "Most cut first": "Primero las más cortadas",
    "Left out": "Omitidas",
    "Left out: {reason}": "Omitida: {reason}",
    "Search": "Buscar",
    "Save rows or report": "Guardar filas o informe",
    "What to save": "Qué guardar",
    "Save": "Guardar",
    "Files": "Archivos",
    "Rows as OpenAI JSONL": "Filas como OpenAI JSONL",
    "Rows as ShareGPT": "Filas como ShareGPT",
    "Rows as Alpaca": "Filas como Alpaca",
    "Rows as prompt and completion": "Filas como prompt y completion",
    "Report as a page (HTML)": "Informe como página (HTML)",
    "Report as text (Markdown)": "Informe como texto (Markdown)",
    "Report as a table (CSV)": "Informe como tabla (CSV)",
    "Previous rows": "Filas anteriores",
    "Next rows": "Filas siguientes",
    "{first} to {last} of {count}": "{first} a {last} de {count}",
    "{train} train, {validation} validate, {test} test": "{train} entrenan, {validation} validan, {test} prueban",
    "{share} of {total} tokens are learned": "se aprende el {share} de {total} tokens",
    "Tokens a row: half up to {p50}, 95 % up to {p95}, longest {max}; {cut} cut at {limit}.": "Tokens por fila: la mitad hasta {p50}, el 95 % hasta {p95}, la más larga {max}; {cut} cortadas en {limit}.",
    "The doctor found nothing wrong with these rows.": "El doctor no encontró nada mal en estas filas.",
    "What the doctor found": "Lo que encontró el doctor",
    "error": "error",
    "warning": "aviso",
    "Start although the doctor objects": "Empezar aunque el doctor objete",
    "{steps} steps, about {time}, {memory} GB of memory, {disk} GB of disk": "{steps} pasos, unos {time}, {memory} GB de memoria, {disk} GB de disco",
    "planned {time} and {memory} GB, took {actual_time} and {actual_memory} GB": "previsto {time} y {memory} GB, real {actual_time} y {actual_memory} GB",
    "about ${cost}": "unos ${cost}",
    "estimate": "estimación",
    "measured in a rehearsal": "medido en un ensayo",
    "Rehearse: measure it in a few steps": "Ensayar: medirlo en unos pasos",
    "Passes of up to {tokens} tokens; {recomputed} of {layers} layers recompute their activations.": "Pasadas de hasta {tokens} tokens; {recomputed} de {layers} capas recalculan sus activaciones.",
    "loading": "carga",
    "base answers": "respuestas del base",
    "training": "entrenamiento",
    "checks": "controles",
    "tuned answers": "respuestas del afinado",
    "merging": "fusión",
    "program": "programa",
    "weights": "pesos",
    "embeddings": "embeddings",
    "adapter": "adaptador",
    "activations": "activaciones",
    "logits": "logits",
    "unpacking": "desempaquetado",
    "It also fits without the 4-bit base, which trains faster and merges exactly.": "También cabe sin la base de 4 bits, que entrena más rápido y se fusiona con exactitud.",
    "fits": "cabe",
    "tight": "justo",
    "does not fit": "no cabe",
    # train
    "Preset": "Ajuste preparado",
    "Fills in everything: model, data, template and settings.": "Rellena todo: modelo, datos, plantilla y ajustes.",
    "How long": "Cuánto",
    "Quick check (5 steps, no verdict)": "Prueba rápida (5 pasos, sin veredicto)",
    "Standard": "Normal",
    "Thorough (twice as long)": "A fondo (el doble)",
    "How much it may change the model": "Cuánto puede cambiar el modelo",
    "More learns more from the rows, and forgets more of what it could before.": "Cuanto más, más aprende de las filas y más olvida de lo que ya sabía.",
    "A little": "Un poco",
    "Normal": "Normal",
    "A lot": "Mucho",
    "Your own": "A tu manera",
    "All settings": "Todos los ajustes",
    "Training": "Entrenamiento",
    "Adapter": "Adaptador",
    "Quantization": "Cuantización",
    "Evaluation": "Evaluación",
    "Watch prompts": "Preguntas de control",
    "One a line, asked before training and at every check. Empty: three validation rows.": "Una por línea; se hacen antes y en cada control. Vacío: tres filas de validación.",
    "The config as YAML": "La configuración en YAML",
    "Show": "Mostrar",
    "Use this YAML": "Usar este YAML",
    "Start training": "Empezar a entrenar",
    "Stop and keep": "Parar y conservar",
    "Add to the queue": "Poner en la cola",
    "Resume this run": "Continuar este entrenamiento",
    "Waiting": "En espera",
    "Move up": "Subir",
    "Take out": "Quitar",
    "Chat with the result": "Chatear con el resultado",
    "No run yet. Everything is filled in: press Start.": "Aún no hay entrenamientos. Todo está listo: pulsa Empezar.",
    "Loss": "Pérdida",
    "step": "paso",
    "validation loss": "pérdida de validación",
    "Lower is better. Blue: rows it learns from; orange: rows it never sees.": "Más bajo es mejor. Azul: filas de las que aprende; naranja: filas que nunca ve.",
    "Watch it learn": "Míralo aprender",
    "before": "antes",
    "step {step}": "paso {step}",
    "Question": "Pregunta",
    "Answer": "Respuesta",
    "Log": "Registro",
    "Waiting to start": "En espera",
    "Preparing": "Preparando",
    "Evaluating": "Evaluando",
    "Merging": "Fusionando",
    "Done": "Terminado",
    "Stopped": "Parado",
    "Failed": "Falló",
    "Interrupted": "Interrumpido",
    "The process that worked on this run ended. What it saved is kept.": "El proceso que hacía este entrenamiento terminó. Lo guardado se conserva.",
    "Training stops after this step; what was learned is kept.": "Se para tras este paso; lo aprendido se conserva.",
    "step {step} of {steps}": "paso {step} de {steps}",
    "{time} left (measured)": "quedan {time} (medido)",
    "{rate} tokens/s": "{rate} tokens/s",
    "{gb} GB in use": "{gb} GB en uso",
    "loss {loss}": "pérdida {loss}",
    "validation {loss}": "validación {loss}",
    "Base beside tuned": "Base junto a afinado",
    "The tuned model is better than the base on held-out rows.": "El modelo afinado es mejor que el base en filas apartadas.",
    "The tuned model is worse than the base on held-out rows.": "El modelo afinado es peor que el base en filas apartadas.",
    "The tuned model is not shown to be better than the base.": "No está demostrado que el modelo afinado sea mejor que el base.",
    "Too few held-out rows ({rows}) for a verdict; it takes 20.": "Hay muy pocas filas apartadas ({rows}) para un veredicto; hacen falta 20.",
    "A quick check: it works. {rows} rows show no more than that; a verdict takes 20.": "Prueba rápida: funciona. {rows} filas no muestran más que eso; un veredicto necesita 20.",
    "{done} of {of} rows prepared": "{done} de {of} filas preparadas",
    "{done} of {of} rows answered": "{done} de {of} filas respondidas",
    "{done} of {of} GB written": "{done} de {of} GB escritos",
    "{done} of {of} rows compared": "{done} de {of} filas comparadas",
    "exact matches": "coincidencias exactas",
    "base": "base",
    "tuned": "afinado",
    "Expected": "Esperado",
    "Base": "Base",
    "Tuned": "Afinado",
    "{rows} rows kept out of training, greedy decoding, both models in the precision of training.": "{rows} filas fuera del entrenamiento, decodificación voraz, ambos modelos en la precisión del entrenamiento.",
    "Difference {mean}, 95 % interval {low} to {high}.": "Diferencia {mean}, intervalo del 95 %: {low} a {high}.",
    "Merged into the {weights} weights and compared: {same} of {tokens} held-out tokens are the same; loss {before} with the adapter, {after} merged.": "Fusionado con los pesos {weights} y comparado: coinciden {same} de {tokens} tokens apartados; pérdida {before} con el adaptador, {after} fusionado.",
    "original": "originales",
    "rounded as in training": "redondeados como al entrenar",
    # presets
    "Mail to JSON (starter)": "Correo a JSON (inicio)",
    "A laptop without a GPU; under five minutes on two cores.": "Un portátil sin GPU; menos de cinco minutos con dos núcleos.",
    "Text to one of twelve labels": "Texto a una de doce etiquetas",
    "A laptop without a GPU; about three minutes on two cores.": "Un portátil sin GPU; unos tres minutos con dos núcleos.",
    "Question and schema to SQL": "Pregunta y esquema a SQL",
    "A laptop without a GPU; about four minutes on two cores.": "Un portátil sin GPU; unos cuatro minutos con dos núcleos.",
    "A brand's voice, in conversation": "La voz de una marca, en conversación",
    "Qwen2.5 1.5B on a small GPU": "Qwen2.5 1.5B en una GPU pequeña",
    "A GPU with 8 GB (T4, RTX 3060) and 6 GB of disk.": "Una GPU con 8 GB (T4, RTX 3060) y 6 GB de disco.",
    "Llama 3.1 8B on one GPU": "Llama 3.1 8B en una GPU",
    "A GPU with 16 GB (T4, L4, A10G), 40 GB of disk, and access to the gated model (set HF_TOKEN).": "Una GPU con 16 GB (T4, L4, A10G), 40 GB de disco y acceso al modelo restringido (define HF_TOKEN).",
    "Llama 2 13B on one GPU": "Llama 2 13B en una GPU",
    "A GPU with 24 GB (L4, A10G, RTX 4090), 65 GB of disk, and access to the gated model (set HF_TOKEN).": "Una GPU con 24 GB (L4, A10G, RTX 4090), 65 GB de disco y acceso al modelo restringido (define HF_TOKEN).",
    # what the core says while it works
    "Rehearsing: the model is loaded.": "Ensayo: se carga el modelo.",
    "Rehearsing: the longest rows go first.": "Ensayo: primero las filas más largas.",
    "Rehearsing: a few words of a reply.": "Ensayo: unas palabras de respuesta.",
    "Waiting to start.": "En espera.",
    "Reading the rows and the model.": "Leyendo las filas y el modelo.",
    "Merging the adapter into the 16-bit base.": "Fusionando el adaptador con la base de 16 bits.",
    "Done: trained and merged.": "Terminado: entrenado y fusionado.",
    # chat
    "Run": "Entrenamiento",
    "Which model": "Qué modelo",
    "merged": "fusionado",
    "adapter on its base": "adaptador sobre su base",
    "untouched base": "base sin tocar",
    "System prompt": "Instrucción de sistema",
    "Remember the conversation": "Recordar la conversación",
    "Off for tasks that were trained row by row.": "Desactivado en tareas entrenadas fila a fila.",
    "Message": "Mensaje",
    "Write a message and press Enter": "Escribe un mensaje y pulsa Intro",
    "Send": "Enviar",
    "Stop": "Parar",
    "Retry": "Repetir",
    "Clear": "Borrar",
    "The exact prompt": "El texto exacto enviado",
    "How it answers": "Cómo responde",
    "Ask something. The model chosen beside this answers.": "Pregunta algo. Responde el modelo elegido al lado.",
    "Reasoning": "Razonamiento",
    "Thoughts before the answer, learned as <think>…</think>. Usually a column, or empty.": "Ideas antes de la respuesta, se aprenden como <think>…</think>. Suele ser una columna, o vacío.",
    "Conversations": "Conversaciones",
    "For chat data: the column that holds the conversation.": "Para datos de chat: la columna con la conversación.",
    "History": "Historial",
    "Earlier turns of a pair: the column that holds them, as [[question, answer], …].": "Turnos anteriores de un par: la columna que los contiene, como [[pregunta, respuesta], …].",
    "Tools": "Herramientas",
    "For chat data: the column that holds the tools, if there is one.": "Para datos de chat: la columna con las herramientas, si la hay.",
    "Text": "Texto",
    "For plain text: the column. All of it is learned.": "Para texto simple: la columna. Se aprende todo.",
    "There is no model to chat with yet. Train one first.": "Aún no hay modelo con el que chatear. Entrena uno antes.",
    "checkpoint of step {step}": "punto de guardado del paso {step}",
    # runs
    "Runs": "Entrenamientos",
    "Show runs": "Ver",
    "Data, base model, state or id": "Datos, modelo base, estado o id",
    "All runs": "Todos",
    "At work and waiting": "Trabajando y en espera",
    "Ended early": "Acabados antes de tiempo",
    "Trash": "Papelera",
    "Tick two or three runs to compare them.": "Marca dos o tres para compararlos.",
    "Compare": "Comparar",
    "State": "Estado",
    "Steps": "Pasos",
    "Verdict": "Veredicto",
    "Size": "Tamaño",
    "better": "mejor",
    "worse": "peor",
    "not better": "no mejor",
    "too few rows": "muy pocas filas",
    "its config cannot be read": "no se puede leer su configuración",
    "Resume": "Continuar",
    "Discard": "Descartar",
    "Clone settings": "Copiar ajustes",
    "New run from its adapter": "Entrenar desde su adaptador",
    "Evaluate again": "Evaluar otra vez",
    "Evaluate": "Evaluar",
    "Delete": "Borrar entrenamiento",
    "Restore": "Restaurar",
    "Empty trash": "Vaciar la papelera",
    "Yes, do it": "Sí, hazlo",
    "No, leave it": "No, dejarlo",
    "Curves": "Curvas",
    "Report": "Informe",
    "Checkpoints": "Puntos de guardado",
    "Settings": "Ajustes",
    "Step": "Paso",
    "Validation loss": "Pérdida de validación",
    "Saved": "Guardado",
    "Continue from here": "Continuar desde aquí",
    "New run from it": "Entrenar desde él",
    "No complete checkpoint yet. One is saved at every check.": "Aún no hay puntos de guardado completos. Se guarda uno en cada comprobación.",
    "No report yet. It is made when a run is done.": "Aún no hay informe. Se hace al terminar.",
    "Base beside the checkpoint of step {step}": "Base junto al punto de guardado del paso {step}",
    "It is being compared or merged; the log says how far it is.": "Se está comparando o fusionando; el registro dice cuánto falta.",
    "All settings are the same.": "Todos los ajustes son iguales.",
    "The trash is empty.": "La papelera está vacía.",
    "No run yet. Start one in the Train tab.": "Aún no hay entrenamientos. Empieza uno en la pestaña Entrenar.",
    "No run like that.": "Ninguno coincide.",
    "Stop {run} and throw it away? It goes to the trash, whence it can be restored.": "¿Parar {run} y descartarlo? Va a la papelera, de donde se puede restaurar.",
    "Move {run} to the trash ({size})? It can be restored from there.": "¿Mover {run} a la papelera ({size})? Se puede restaurar desde allí.",
    "Delete everything in the trash for good ({trash})? This cannot be undone.": "¿Borrar para siempre todo lo de la papelera ({trash})? No se puede deshacer.",
    "Continue {run} from step {step}? What was learned after it is gone.": "¿Continuar {run} desde el paso {step}? Lo aprendido después se pierde.",
    "Start from an adapter": "Empezar desde un adaptador",
    "A run, RUN@STEP for one of its checkpoints, or a folder. Empty: a new adapter.": "Un entrenamiento, RUN@PASO para un punto de guardado, o una carpeta. Vacío: adaptador nuevo.",
    "Starts from the adapter of {name}.": "Empieza desde el adaptador de {name}.",
    "Stopped and thrown away; it lies in the trash.": "Parado y descartado; está en la papelera.",
    # reading and splitting
    "Data set": "Conjunto de datos",
    "A file, a folder, a pattern such as data/*.csv, or a Hub id such as owner/name.": "Un archivo, una carpeta, un patrón como datos/*.csv o un id del Hub como dueño/nombre.",
    "Config": "Configuración",
    "Of a Hub data set that has several.": "De un conjunto del Hub que tiene varias.",
    "Of a Hub data set: train, or a part such as train[:500].": "De un conjunto del Hub: train, o una parte como train[:500].",
    "Commit or branch of a Hub data set. Pin it to repeat a run exactly.": "Commit o rama de un conjunto del Hub. Fíjalo para repetir exactamente.",
    "Rows at most": "Filas como máximo",
    "Only the first rows are read.": "Solo se leen las primeras filas.",
    "Record list": "Lista de registros",
    "Where the rows are in a nested JSON file, such as data.paragraphs.qas.": "Dónde están las filas en un JSON anidado, como data.paragraphs.qas.",
    "Sheet": "Hoja",
    "Of an Excel file; the first if empty.": "De un archivo Excel; la primera si está vacío.",
    "A row of plain text is": "Una fila de texto simple es",
    "A line, a block between blank lines, or a whole file.": "Una línea, un bloque entre líneas en blanco o un archivo entero.",
    "Split": "Partición",
    "Validation": "Validación",
    "Watched while training: a share (0.1), a number of rows (200), a range (100:200) or a file.": "Se mira al entrenar: una parte (0.1), un número de filas (200), un rango (100:200) o un archivo.",
    "Test": "Prueba",
    "Held back for the verdict: a share, a number of rows, a range or a file.": "Se aparta para el veredicto: una parte, un número de filas, un rango o un archivo.",
    "Another seed, other rows.": "Otra semilla, otras filas.",
    "Balance by": "Equilibrar por",
    "A column, such as the label: every side gets the same mixture.": "Una columna, como la etiqueta: cada lado recibe la misma mezcla.",
    "Keep together": "Mantener juntas",
    "A column, such as the author: rows that share a value stay on one side.": "Una columna, como el autor: las filas con el mismo valor quedan en un lado.",
    "Split column": "Columna de partición",
    "A column that says train, validation or test; it then decides alone.": "Una columna que dice train, validation o test; entonces decide sola.",
    "Metrics": "Métricas",
    "auto chooses by the shape of the answers.": "auto elige según la forma de las respuestas.",
    "Baselines": "Referencias",
    "What the tuned model has to beat.": "Lo que el modelo afinado debe superar.",
    # settings
    "4-bit base (QLoRA)": "Base de 4 bits (QLoRA)",
    "Keeps the frozen base in 4 bits: a quarter of the memory.": "Guarda la base congelada en 4 bits: un cuarto de la memoria.",
    "4-bit type": "Tipo de 4 bits",
    "nf4 fits normally distributed weights.": "nf4 va bien con pesos de distribución normal.",
    "Double quantization": "Doble cuantización",
    "Quantizes the scales, too: saves 0.4 bits a weight.": "Cuantiza también las escalas: ahorra 0,4 bits por peso.",
    "Rank": "Rango",
    "How much the adapter can hold. 8 to 32 suits most tasks.": "Cuánto cabe en el adaptador. De 8 a 32 basta casi siempre.",
    "Alpha": "Alfa",
    "Strength of the adapter: scaled by alpha / rank. Usually rank to twice the rank.": "Fuerza del adaptador: alfa / rango. Suele ir del rango a su doble.",
    "Dropout": "Dropout",
    "Share of adapter inputs dropped while training.": "Parte de las entradas del adaptador que se omite al entrenar.",
    "Target modules": "Capas con adaptador",
    "Layers that get an adapter: all-linear, or names.": "Capas que reciben adaptador: all-linear, o sus nombres.",
    "rsLoRA": "rsLoRA",
    "Scales by alpha / √rank: steadier at high ranks.": "Escala por alfa / √rango: más estable con rangos altos.",
    "DoRA": "DoRA",
    "Learns how strong each output is apart from its direction: better at low ranks, about half as fast.": "Aprende la fuerza de cada salida aparte de su dirección: mejor con rangos bajos, a la mitad de velocidad.",
    "First weights": "Primeros pesos",
    "olora and pissa begin with the main directions of the base and learn faster; the adapter is saved with twice the rank.": "olora y pissa empiezan con las direcciones principales de la base y aprenden más rápido; el adaptador se guarda con el doble de rango.",
    "Epochs": "Épocas",
    "How often every row is seen.": "Cuántas veces se ve cada fila.",
    "Steps at most": "Pasos como máximo",
    "Overrides epochs when above 0; -1 turns it off.": "Manda sobre las épocas si es mayor que 0; -1 lo desactiva.",
    "Learning rate": "Tasa de aprendizaje",
    "Size of a step. 1e-4 to 1e-3 for LoRA; halve it when the loss jumps.": "Tamaño del paso. De 1e-4 a 1e-3 con LoRA; redúcela a la mitad si la pérdida salta.",
    "Batch size": "Tamaño de lote",
    "Rows taken together; × accumulation = rows a step. The plan chooses how many tokens go through at once.": "Filas juntas; × acumulación = filas por paso. El plan elige cuántos tokens pasan a la vez.",
    "Accumulation": "Acumulación",
    "Batch size × this = rows a step, whatever the memory.": "Lote × esto = filas por paso, con cualquier memoria.",
    "Longest row (tokens)": "Fila más larga (tokens)",
    "Longer rows are cut; the Data tab says which.": "Las más largas se cortan; la pestaña Datos dice cuáles.",
    "Schedule": "Programa",
    "How the learning rate falls.": "Cómo baja la tasa de aprendizaje.",
    "Warm-up": "Calentamiento",
    "Below 1: a share of all steps; else a number of steps.": "Menor que 1: parte de los pasos; si no, número de pasos.",
    "Weight decay": "Decaimiento de pesos",
    "Pulls adapter weights towards 0.": "Lleva los pesos del adaptador hacia 0.",
    "Gradient clipping": "Recorte del gradiente",
    "Longest gradient allowed; 0 turns it off.": "Gradiente máximo; 0 lo desactiva.",
    "Optimizer": "Optimizador",
    "The 8-bit ones need a GPU.": "Los de 8 bits necesitan GPU.",
    "Log every … steps": "Anotar cada … pasos",
    "How often the training loss is read.": "Cada cuánto se lee la pérdida.",
    "Check every … steps": "Comprobar cada … pasos",
    "Validation loss, watch prompts and a checkpoint. Below 1: a share of all steps.": "Pérdida de validación, preguntas de control y punto de guardado. Menor que 1: parte de los pasos.",
    "Recompute activations": "Recalcular activaciones",
    "Saves memory for about a third more time. For large models.": "Ahorra memoria por un tercio más de tiempo. Para modelos grandes.",
    "NEFTune noise": "Ruido NEFTune",
    "Noise on the embeddings while training, 5 is usual; empty turns it off.": "Ruido en los embeddings al entrenar, suele ser 5; vacío lo desactiva.",
    "Learn the answers only": "Aprender solo las respuestas",
    "Off: questions and system prompts are learned, too.": "Desactivado: también se aprenden preguntas e instrucciones.",
    "Report to": "Informar a",
    "Sends the curves to a tracker as well, where it is installed.": "Envía además las curvas a un registro, si está instalado.",
    "Patience": "Paciencia",
    "Stops when so many checks in a row bring no better validation loss; 0 never does.": "Se para si tantas comprobaciones seguidas no mejoran la validación; 0 nunca.",
    "ftui was shut down. The work so far is saved; Resume goes on from there.": "ftui se cerró. Lo hecho está guardado; Continuar sigue desde ahí.",
    "ftui ended before this run began. Resume starts it.": "ftui terminó antes de empezar. Continuar lo inicia.",
    "Waiting to go on.": "En espera para continuar.",
    "Seed": "Semilla",
    "Same seed, same data, same machine: same run.": "Misma semilla, datos y máquina: mismo resultado.",
    "Test rows": "Filas de prueba",
    "At most so many held-out rows are answered; 0 turns the comparison off.": "Se responden como mucho tantas filas apartadas; 0 desactiva la comparación.",
    "Longest answer (tokens)": "Respuesta más larga (tokens)",
    "Answers are cut here.": "Aquí se cortan las respuestas.",
    "Temperature": "Temperatura",
    "0 always takes the likeliest word; higher is more varied.": "0 toma siempre la palabra más probable; más alto es más variado.",
    "Top-p": "Top-p",
    "Chooses among the likeliest words that together reach this share.": "Elige entre las palabras más probables que juntas suman esta parte.",
    "Longest reply (tokens)": "Respuesta más larga (tokens)",
    "Replies are cut here.": "Aquí se cortan las respuestas.",
    "System": "Sistema",
    "Prompt": "Pregunta",
    "Completion": "Respuesta",
    "Revision": "Revisión",
    "Commit or branch of a Hub model.": "Commit o rama de un modelo del Hub.",
    "auto: the model's own; or plain, alpaca, chatml, or a .jinja file.": "auto: la del modelo; o plain, alpaca, chatml, o un archivo .jinja.",
}


def _in_spanish(sentence: str) -> str:
    """What the core said, blanks filled as it filled them."""
    if sentence in SPANISH:
        return SPANISH[sentence]
    for pattern, spanish in _patterns():
        if found := pattern.fullmatch(sentence):
            blanks = {name: _in_spanish(said) if name in NESTED else said for name, said in found.groupdict().items()}
            return spanish.format(**blanks)
    return sentence


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """Those with the most words of their own first, so that none is taken for a shorter one."""
    known = {**SPANISH, **SENTENCES, **WORDS}
    with_most_words = sorted(known, key=lambda english: -len(re.sub(BLANK, "", english)))
    return [(re.compile(_as_pattern(english), re.DOTALL), known[english]) for english in with_most_words]


def _as_pattern(english: str) -> str:
    *parts, end = re.split(BLANK, english)
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return "".join(f"{re.escape(words)}(?P<{name}>.*?)" for words, name in pairs) + re.escape(end)


def say(english: str) -> object:
    """A label in the language of the browser that shows it."""
    return gr.I18n()(_key(english))


def catalogue() -> gr.I18n:
    """The translations that the browser gets."""
    return gr.I18n(
        en={_key(text): text for text in SPANISH}, es={_key(text): spanish for text, spanish in SPANISH.items()}
    )


def _key(english: str) -> str:
    if english not in SPANISH:
        raise KeyError(f"ui/language.py has no Spanish for {english!r}")
    return "ftui" + hashlib.sha1(english.encode()).hexdigest()[:10]


class Voice:
    """What the server writes into the page, in the language that a request asked for."""

    def __init__(self, request: gr.Request | None) -> None:
        asked = request.headers.get("accept-language", "") if request else ""
        self.spanish = asked.lower().startswith("es")

    @classmethod
    def of(cls, spanish: bool) -> Voice:
        voice = cls(None)
        voice.spanish = spanish
        return voice

    def __call__(self, english: str, **values: object) -> str:
        return (SPANISH[english] if self.spanish else english).format(**values)

    def known(self, sentence: str) -> str:
        """A sentence that the core wrote, translated where it is known. Mistakes that were joined are told apart."""
        if not self.spanish:
            return sentence
        return " · ".join(_in_spanish(mistake) for mistake in sentence.split(" · "))

    def day(self, when: str) -> str:
        """A time, ISO 8601, as people write it: 21 Nov 13:17."""
        time = datetime.fromisoformat(when)
        months = "ene feb mar abr may jun jul ago sep oct nov dic" if self.spanish else MONTHS
        return f"{time.day} {months.split()[time.month - 1]} {time:%H:%M}"

    def number(self, value: float, decimals: int = 0) -> str:
        text = f"{value:,.{decimals}f}"
        return text.translate(str.maketrans(",.", ".,")) if self.spanish else text
